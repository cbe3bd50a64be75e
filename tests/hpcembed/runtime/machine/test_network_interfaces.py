"""Interfaces and addresses on a route."""

from __future__ import annotations

import socket
import sys

import pytest

from hpcembed.runtime.machine import network_interfaces
from hpcembed.runtime.machine.network_interfaces import (
    address_towards,
    interface_of,
    interface_towards,
)

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="interfaces of Linux")


@linux
def test_loopback():
    assert interface_of("127.0.0.1") == "lo"
    assert interface_towards("127.0.0.1") == "lo"
    # Debian's address of its own name is on the loopback interface without being the one of it
    assert address_towards("127.0.1.1") in ("127.0.0.1", "127.0.1.1")


@linux
def test_interface_of_each_address():
    named = {name for _, name in socket.if_nameindex()}
    address = address_towards("192.0.2.1")  # reserved for documentation: the default route
    if address is None:
        pytest.skip("no default route")
    assert not address.startswith("127.")
    assert interface_of(address) in named - {"lo"}


@linux
def test_ipv6(monkeypatch, tmp_path):
    table = tmp_path / "if_inet6"
    table.write_text(f"{'0' * 31}1 01 80 10 80       lo\n20010db8{'0' * 23}5 02 40 00 80     ib0\n")
    monkeypatch.setattr(network_interfaces, "Path", lambda _: table)
    assert interface_of("::1") == "lo"
    assert interface_of("2001:db8::5%ib0") == "ib0"
    assert interface_of("2001:db8::6") is None


def test_unknown():
    assert address_towards("no-such-host.invalid") is None
    assert interface_towards("no-such-host.invalid") is None
    assert interface_of("192.0.2.1") is None
    assert interface_of("not an address") is None
