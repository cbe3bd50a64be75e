"""Pictures of the benchmark as PNG files: performance profiles, convergence, nested sizes.

Drawn on figure objects with matplotlib's Agg canvas, which is imported only when a picture is asked
for. Colours are those of Okabe and Ito (2008); lines differ in style as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from miramns.bench.profiles import cost_table, performance_profile
from miramns.bench.records import Record

__all__ = ["draw_course", "draw_profiles"]

P = ParamSpec("P")

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#888888")
_STYLES = ("-", "--", "-.", ":")
#: Points beyond which markers would merge into a band.
_MARKED = 60
_SETTINGS: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_TITLES = {True: "Hermitian", False: "nonsymmetric"}


def _styled(draw: Callable[P, bool]) -> Callable[P, bool]:
    """Apply the settings to one picture, not to the user's others."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> bool:
        import matplotlib

        with matplotlib.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return styled


@_styled
def draw_profiles(path: Path, records: Sequence[Record], what: str) -> bool:
    """Draw performance profiles, Hermitian and nonsymmetric problems apart. Not collective.

    Parameters
    ----------
    what : {"n_matvec", "seconds"}
        The cost.

    Returns
    -------
    bool
        False, and no picture, where no problem has a right answer.
    """
    tables = {}
    for hermitian, title in _TITLES.items():
        problems, methods, costs = cost_table(
            [one for one in records if one.hermitian is hermitian], what
        )
        solved = int(np.isfinite(costs).any(axis=1).sum()) if costs.size else 0
        if solved:
            tables[f"{title} operators, {solved} of {len(problems)} cases"] = (methods, costs)
    if not tables:
        return False
    names = list(dict.fromkeys(one.method for one in records))
    figure = _figure(5.0 * len(tables) + 2.6, max(4.2, 0.21 * len(names) + 1.4))
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    drawn: dict[str, Any] = {}
    for axes, (title, (methods, costs)) in zip(panels, tables.items(), strict=True):
        factors, shares = performance_profile(costs)
        right = max(2.0, float(factors[-1]) * 1.15)
        for method, share in zip(methods, shares.T, strict=True):
            line = axes.step(
                np.append(factors, right),
                100.0 * np.append(share, share[-1]),
                where="post",
                **_look(names.index(method), method),
            )
            drawn[method] = line[0]
        _factor_axis(axes, right)
        axes.set_ylim(-2.0, 104.0)
        axes.set_title(title, loc="left")
        axes.set_xlabel("factor to the best method")
    cost = "products" if what == "n_matvec" else "seconds"
    panels[0].set_ylabel(f"cases solved within the factor (%), {cost}")
    ordered = [name for name in names if name in drawn]
    figure.legend([drawn[name] for name in ordered], ordered, loc="outside right upper")
    _save(figure, path)
    return True


@_styled
def draw_course(path: Path, records: Sequence[Record]) -> bool:
    """Draw how the methods converge on one problem, and the sizes they restart from.

    Not collective.

    Parameters
    ----------
    records : sequence of Record
        All of one problem and k.

    Returns
    -------
    bool
        False, and no picture, where no method tells its course.
    """
    names = [one.method for one in records]
    told = [one for one in records if one.timed and any(x > 0 for x in one.course.measures)]
    if not told:
        return False
    sized = [one for one in told if one.course.sizes]
    figure = _figure(9.4, 6.6 if sized else 4.2)
    grid = figure.subplots(
        2 if sized else 1, 1, squeeze=False, height_ratios=(2, 1)[: 1 + bool(sized)]
    )
    upper = grid[0, 0]
    for one in told:
        products = np.array(one.course.products, dtype=np.float64)
        measures = np.array(one.course.measures, dtype=np.float64)
        shown = measures > 0
        label = one.method + ("" if one.ok else f" ({one.status})")
        upper.plot(
            products[shown],
            measures[shown],
            **_look(names.index(one.method), label),
            **_marks(int(shown.sum())),
        )
    upper.axhline(told[0].tol, color="#666666", linewidth=0.9)
    upper.annotate(
        f"tol {told[0].tol:g}", (1.0, told[0].tol), xycoords=("axes fraction", "data"),
        xytext=(-2, 3), textcoords="offset points", ha="right", color="#666666",
    )  # fmt: skip
    upper.set_yscale("log")
    if max(max(one.course.products) for one in told) > 20 * _median_products(told):
        upper.set_xscale("log")
    first = told[0]
    upper.set_title(f"{first.problem}, n = {first.n}, k = {first.k}, {first.which}", loc="left")
    upper.set_xlabel("products")
    upper.set_ylabel("measure (each on its own scale)")
    upper.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if sized:
        _draw_sizes(grid[1, 0], sized, names)
    _save(figure, path)
    return True


def _draw_sizes(axes: Any, records: Sequence[Record], names: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    longest, tallest = 1, 1
    for one in records:
        sizes = np.array(one.course.sizes)
        longest, tallest = max(longest, sizes.size), max(tallest, int(sizes.max()))
        look = _look(names.index(one.method), one.method)
        axes.plot(np.arange(sizes.size), sizes, drawstyle="steps-mid", **look, **_marks(sizes.size))
    if longest > 200:
        axes.set_xscale("symlog", linthresh=10)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        margin = 0.5 + 0.01 * longest
        axes.set_xlim(-margin, longest - 1 + margin)
    axes.set_ylim(0.0, 1.12 * tallest)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_xlabel("restart")
    axes.set_ylabel("size taken")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _median_products(records: Sequence[Record]) -> float:
    return float(np.median([max(one.course.products) for one in records]))


def _factor_axis(axes: Any, right: float) -> None:
    """Logarithmic axis of factors from 1, with ticks that read as numbers."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(1.0, right)
    candidates = [1, 1.2, 1.5, 2, 3, 5, 7, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000]
    if right > 10:
        candidates = [value for value in candidates if value not in (1.2, 1.5, 3, 7)]
    if right > 200:
        candidates = [1, 10, 100, 1000, 10_000, 100_000]
    ticks = [value for value in candidates if value <= right]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _look(position: int, label: str) -> dict[str, Any]:
    return {
        "color": _COLOURS[position % len(_COLOURS)],
        "linestyle": _STYLES[(position // len(_COLOURS)) % len(_STYLES)],
        "linewidth": 2.6 if label.startswith("miramns") else 1.5,
        "label": label,
    }


def _marks(n_points: int) -> dict[str, Any]:
    return {"marker": "o", "markersize": 3.5} if n_points <= _MARKED else {}


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_figure(path, format="png", dpi=130)
