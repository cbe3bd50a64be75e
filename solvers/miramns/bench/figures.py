"""Figures of the eigensolver benchmark: performance profiles, convergence, subspace sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miramns.bench.eigensolver_record import EigensolverRecord
from miramns.bench.harness.figures import figure_in, line_style
from miramns.bench.harness.performance_profile import cost_table, performance_profile
from miramns.bench.harness.records import by_case

#: Number of points above which a line has no markers, which would merge into a band.
_MOST_MARKERS = 60
_KINDS = {True: "Hermitian", False: "nonsymmetric"}


def draw_all(folder: Path, records: Sequence[EigensolverRecord]) -> None:
    """Draw the performance profiles, and one figure for each problem and k."""
    draw_profiles(folder / "profile-products.png", records, "n_matvec")
    draw_profiles(folder / "profile-seconds.png", records, "seconds")
    for (problem, k), members in by_case(records).items():
        name = re.sub(r"[^\w.]+", "-", problem).strip("-")
        draw_course(folder / f"course-{name}-k{k}.png", members)


def draw_profiles(path: Path, records: Sequence[EigensolverRecord], cost: str) -> bool:
    """Draw performance profiles of Hermitian and of nonsymmetric problems.

    Parameters
    ----------
    cost : {"n_matvec", "seconds"}

    Returns
    -------
    bool
        False, without a figure, if no problem has a right answer.
    """
    tables = {}
    for hermitian, kind in _KINDS.items():
        problems, methods, costs = cost_table(
            [one for one in records if one.timed and one.hermitian is hermitian], cost
        )
        solved = int(np.isfinite(costs).any(axis=1).sum()) if costs.size else 0
        if solved:
            tables[f"{kind} operators, {solved} of {len(problems)} cases"] = (methods, costs)
    if not tables:
        return False
    names = list(dict.fromkeys(one.method for one in records))
    width, height = 5.0 * len(tables) + 2.6, max(4.2, 0.21 * len(names) + 1.4)
    with figure_in(path, width=width, height=height, axes_grid=True) as figure:
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
                    **_style(names, method),
                )
                drawn[method] = line[0]
            _set_factor_axis(axes, right)
            axes.set_ylim(-2.0, 104.0)
            axes.set_title(title, loc="left")
            axes.set_xlabel("factor to the best method")
        label = "products" if cost == "n_matvec" else "seconds"
        panels[0].set_ylabel(f"cases solved within the factor (%), {label}")
        ordered = [name for name in names if name in drawn]
        figure.legend([drawn[name] for name in ordered], ordered, loc="outside right upper")
    return True


def draw_course(path: Path, records: Sequence[EigensolverRecord]) -> bool:
    """Draw the courses of all methods on one problem for one k, and the sizes they restart from.

    Returns
    -------
    bool
        False, without a figure, if no method records its course.
    """
    names = [one.method for one in records]
    shown = [one for one in records if one.timed and any(x > 0 for x in one.course.measures)]
    if not shown:
        return False
    sized = [one for one in shown if one.course.sizes]
    with figure_in(path, width=9.4, height=6.6 if sized else 4.2, axes_grid=True) as figure:
        ratios = (2, 1)[: 1 + bool(sized)]
        panels = figure.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0]
        _draw_measures(panels[0], shown, names)
        if sized:
            _draw_sizes(panels[1], sized, names)
    return True


def _draw_measures(axes: Any, records: Sequence[EigensolverRecord], names: Sequence[str]) -> None:
    for one in records:
        products = np.array(one.course.products, dtype=np.float64)
        measures = np.array(one.course.measures, dtype=np.float64)
        positive = measures > 0
        style = _style(names, one.method, "" if one.is_right else f" ({one.status})")
        marks = _markers(int(positive.sum()))
        axes.plot(products[positive], measures[positive], **style, **marks)
    first = records[0]
    axes.axhline(first.tol, color="#666666", linewidth=0.9)
    axes.annotate(
        f"tol {first.tol:g}", (1.0, first.tol), xycoords=("axes fraction", "data"),
        xytext=(-2, 3), textcoords="offset points", ha="right", color="#666666",
    )  # fmt: skip
    axes.set_yscale("log")
    totals = [max(one.course.products) for one in records]
    if max(totals) > 20 * float(np.median(totals)):
        axes.set_xscale("log")
    axes.set_title(f"{first.problem}, n = {first.n}, k = {first.k}, {first.which}", loc="left")
    axes.set_xlabel("products")
    axes.set_ylabel("measure (each on its own scale)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_sizes(axes: Any, records: Sequence[EigensolverRecord], names: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    longest, tallest = 1, 1
    for one in records:
        sizes = np.array(one.course.sizes)
        longest, tallest = max(longest, sizes.size), max(tallest, int(sizes.max()))
        style = _style(names, one.method) | _markers(sizes.size)
        axes.plot(np.arange(sizes.size), sizes, drawstyle="steps-mid", **style)
    if longest > 200:
        axes.set_xscale("symlog", linthresh=10)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        margin = 0.5 + 0.01 * longest
        axes.set_xlim(-margin, longest - 1 + margin)
    axes.set_ylim(0.0, 1.12 * tallest)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_xlabel("restart")
    axes.set_ylabel("subspace size")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _set_factor_axis(axes: Any, right: float) -> None:
    """Make the axis of factors logarithmic from 1, with ticks in plain numbers."""
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


def _style(names: Sequence[str], method: str, remark: str = "") -> dict[str, Any]:
    return line_style(names.index(method), method + remark, wide=method == "miramns")


def _markers(n_points: int) -> dict[str, Any]:
    return {"marker": "o", "markersize": 3.5} if n_points <= _MOST_MARKERS else {}
