"""Figure of the similarity of layers: one heat map for each network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hpcembed.jobs.report.figures import style
from hpcembed.jobs.report.layer_similarity import cka_text
from hpcembed.jobs.report.run_json import SimilarityRecord
from hpcembed.jobs.report.wording import network_name
from hpcembed.runtime.wording import counted

__all__ = ["draw_similarity", "similarity_columns"]

#: Layers beyond which cells have no numbers.
_MOST_NUMBERED = 10
#: Heat maps in one row of the figure.
_COLUMNS = 3


@style.without_grid
def draw_similarity(records: Sequence[SimilarityRecord]) -> Figure:
    """Draw the linear CKA of the layers of networks on all features and on the embedding.

    Parameters
    ----------
    records : sequence of SimilarityRecord
        At least one.
    """
    n_layers = max(len(one.full_layers) for one in records)
    side = 1.9 + 0.55 * min(n_layers, _MOST_NUMBERED)
    columns = min(len(records), _COLUMNS)
    lines = -(-len(records) // columns)
    figure = style.new_figure(side * columns + 1.2, (side + 0.3) * lines + 0.4)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    images = [_draw_one(axes, one) for axes, one in zip(grid, records, strict=False)]
    for axes in grid[len(records) :]:
        axes.set_axis_off()
    figure.colorbar(images[0], ax=list(grid), label="linear CKA", shrink=0.8)
    figure.suptitle(f"Similarity of layers, {counted(records[0].n_rows, 'test row')}", fontsize=11)
    return figure


def _draw_one(axes: Any, one: SimilarityRecord) -> Any:
    cka = np.array(one.cka, dtype=np.float64)
    image = axes.imshow(cka, cmap="Blues", vmin=0.0, vmax=1.0)
    if max(cka.shape) <= _MOST_NUMBERED:
        axes.set_xticks(range(cka.shape[1]), one.embedded_layers, rotation=45, ha="right")
        axes.set_yticks(range(cka.shape[0]), one.full_layers)
        for (i, j), value in np.ndenumerate(cka):
            colour = "white" if value > 0.55 else "black"
            axes.text(
                j, i, cka_text(float(value)), ha="center", va="center", fontsize=8, color=colour
            )
    axes.set(title=network_name(one.hidden), xlabel="on the embedding", ylabel="on all features")
    return image


def similarity_columns(records: Sequence[SimilarityRecord]) -> dict[str, Any]:
    """Collect the numbers of the figure as columns, one row for each pair of layers."""
    cells = [
        (network_name(one.hidden), full, embedded, one.cka[i][j])
        for one in records
        for i, full in enumerate(one.full_layers)
        for j, embedded in enumerate(one.embedded_layers)
    ]
    names = ("network", "full_layer", "embedded_layer", "cka")
    return {name: [cell[i] for cell in cells] for i, name in enumerate(names)}
