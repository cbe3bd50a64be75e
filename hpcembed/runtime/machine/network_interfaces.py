"""The network interface through which this process reaches a host, and its address there.

The name of a host does not tell this: many systems resolve their own name to a loopback address
(Debian: 127.0.1.1), and a compute node has several networks. The routing table of the system
decides instead: a UDP socket that is connected to the host has the address of the interface on the
route. No packet is sent.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["address_towards", "interface_of", "interface_towards"]

#: Linux: get the address of an interface.
_SIOCGIFADDR = 0x8915


def address_towards(host: str) -> str | None:
    """Return the address of this machine on the route to a host, or None without a route.

    Parameters
    ----------
    host : str
        Name or address.

    Examples
    --------
    >>> address_towards("127.0.0.1")
    '127.0.0.1'
    """
    try:
        places = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    for family, kind, protocol, _, target in places:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    return None


def interface_of(address: str) -> str | None:
    """Return the name of the interface with an address; None if it is unknown (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        wanted = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if wanted.version == 6:
        return _interface_of_ipv6(wanted)
    for _, name in socket.if_nameindex():
        if _ipv4_of(name) == wanted.packed:
            return name
    return None


def interface_towards(host: str) -> str | None:
    """Return the name of the interface on the route to a host, or None if it is unknown."""
    address = address_towards(host)
    return None if address is None else interface_of(address)


def _ipv4_of(interface: str) -> bytes | None:
    import fcntl  # not on Windows

    request = struct.pack("256s", interface.encode()[:15])
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24]
    return None  # without an IPv4 address


def _interface_of_ipv6(wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    with suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            address, *_, name = line.split()
            if bytes.fromhex(address) == wanted.packed:
                return name
    return None
