"""Sizes of networks: those with a name, and those that are too large."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from hpcembed.runtime.errors import ConfigError

__all__ = ["NETWORK_SIZES", "check_network", "check_networks", "count_parameters", "layers_of"]

#: Hidden layers of the networks that have a name (the published two-layer networks).
NETWORK_SIZES: Mapping[str, tuple[int, ...]] = types.MappingProxyType(
    {
        "large": (512, 512),
        "medium": (256, 256),
        "low": (64, 64),
        "very_low": (32, 32),
    }
)

#: Parameters of one network beyond which a width is a typing error.
MOST_PARAMETERS = 2**31


def layers_of(network: str | Sequence[int]) -> tuple[int, ...]:
    """Return the hidden layers of a network that is named or listed.

    Examples
    --------
    >>> layers_of("low"), layers_of([16, 8])
    ((64, 64), (16, 8))
    """
    return NETWORK_SIZES[network] if isinstance(network, str) else tuple(network)


def count_parameters(layers: Sequence[int]) -> int:
    """Return the number of weights and biases between layers of these widths."""
    return sum(width * (before + 1) for before, width in pairwise(layers))


def check_networks(networks: Iterable[str | Sequence[int]], n_inputs: int, n_classes: int) -> None:
    """Refuse networks that are too large for a data set, as :func:`check_network`."""
    for network in networks:
        check_network((n_inputs, *layers_of(network), n_classes), "this data")


def check_network(layers: Sequence[int], source: str) -> None:
    """Refuse layers that have more parameters than any network of this kind.

    Parameters
    ----------
    layers : sequence of int
        Widths of consecutive layers, with or without inputs and classes.

    Raises
    ------
    ConfigError
    """
    count = count_parameters(layers)
    if max(count, *layers) > MOST_PARAMETERS:
        shown = "-".join(map(str, layers[:8])) + ("-..." if len(layers) > 8 else "")
        raise ConfigError(
            f"{source}: classifier.hidden: layers {shown} have {count:.1e} parameters, more than "
            "2^31: choose smaller widths"
        )
