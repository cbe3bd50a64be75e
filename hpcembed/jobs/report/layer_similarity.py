"""A line about the similarity of networks on all features and on the embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpcembed.jobs.report.dimensions import Number
from hpcembed.jobs.report.run_json import SimilarityRecord
from hpcembed.jobs.report.wording import network_name
from hpcembed.runtime.wording import counted

__all__ = ["cka_text", "similarity_line"]

#: Layers of a network that a line lists; the middle of more is left out.
_LISTED = 6


def similarity_line(records: Sequence[SimilarityRecord]) -> str:
    """Return the linear CKA of layers at equal places, for all networks in one line.

    Parameters
    ----------
    records : sequence of SimilarityRecord
        At least one.

    Examples
    --------
    >>> layers = ["hidden 1", "output"]
    >>> record = SimilarityRecord((64,), 359, layers, layers, [[0.913, 0.7], [0.6, 0.984]])
    >>> print(similarity_line([record]))
    similarity to the layers on all features (linear CKA, 359 test rows): 64: 0.91, output 0.98
    """
    networks = []
    for one in records:
        *hidden, output = [cka_text(row[i]) for i, row in enumerate(one.cka)]
        if len(hidden) > _LISTED:
            hidden = [*hidden[: _LISTED - 1], "...", hidden[-1]]
        layers = ", ".join([*hidden, f"output {output}"])
        networks.append(f"{network_name(one.hidden)}: {layers}")
    rows = counted(records[0].n_rows, "test row")
    return f"similarity to the layers on all features (linear CKA, {rows}): {'; '.join(networks)}"


def cka_text(value: Number) -> str:
    """Format a value of CKA; a dash if it is not defined.

    Examples
    --------
    >>> cka_text(0.9134), cka_text(1.0), cka_text(None)
    ('0.91', '1.00', '-')
    """
    return "-" if value is None or not math.isfinite(value) else f"{value:.2f}"
