"""Phrases and number formats of reports: terminal, Markdown, HTML, captions of figures.

Templates of whole documents are in the folder ``templates``. Functions take plain values;
accuracies and margins are shares between 0 and 1 and are shown in percent or in points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcembed.runtime.wording import counted

__all__ = [
    "certification_line",
    "few_rows_warning",
    "few_seeds_warning",
    "hidden_layers",
    "majority_warning",
    "network_name",
    "percent",
    "points",
    "ratio",
    "seconds_line",
    "seconds_text",
]

#: Numbers of eigenpairs that a message lists; further ones are counted.
LISTED = 8
#: Characters of a list of layer widths; the middle of a longer one is left out.
WIDEST_LAYERS = 32
#: Seeds that a reliable interval needs.
ENOUGH_SEEDS = 5


def percent(mean: float, deviation: float = math.nan) -> str:
    """Format an accuracy in percent, with its standard deviation if there is one.

    Examples
    --------
    >>> percent(0.97123, 0.0008), percent(0.97123), percent(float("nan"))
    ('97.12 ± 0.08', '97.12', '-')
    """
    if not math.isfinite(mean):
        return "-"
    spread = f" ± {100.0 * deviation:.2f}" if math.isfinite(deviation) else ""
    return f"{100.0 * mean:.2f}{spread}"


def points(mean: float, low: float = math.nan, high: float = math.nan) -> str:
    """Format a difference of accuracies in points, with its interval if there is one.

    Examples
    --------
    >>> points(-0.00131, -0.0025, -0.0001)
    '-0.13 [-0.25, -0.01]'
    """
    interval = f" [{100.0 * low:+.2f}, {100.0 * high:+.2f}]" if math.isfinite(low) else ""
    return f"{100.0 * mean:+.2f}{interval}"


def ratio(large: float, small: float) -> str:
    """Format a quotient: ``3.2x``; a dash where the divisor is zero."""
    return f"{large / small:.1f}x" if small else "-"


def seconds_text(seconds: float) -> str:
    """Format seconds with three digits or two decimals."""
    if not math.isfinite(seconds):
        return "-"
    decimals = 2 if seconds < 10 else 1 if seconds < 100 else 0
    return f"{seconds:.{decimals}f}"


def seconds_line(seconds: Mapping[str, float]) -> str:
    """List the seconds of each stage and their sum.

    Examples
    --------
    >>> seconds_line({"read": 0.125, "solve": 3.4})
    'seconds: read 0.12, solve 3.40; total 3.52'
    """
    stages = ", ".join(f"{name} {seconds_text(value)}" for name, value in seconds.items())
    return f"seconds: {stages}; total {seconds_text(math.fsum(seconds.values()))}"


def network_name(hidden: Sequence[int]) -> str:
    """Name a network by the widths of its hidden layers: ``64-32``, or ``linear``."""
    return "-".join(map(str, hidden)) if hidden else "linear"


def hidden_layers(hidden: Sequence[int]) -> str:
    """List the widths of hidden layers; a long list keeps its ends and its count."""
    text = "-".join(map(str, hidden)) if hidden else "none"
    if len(text) <= WIDEST_LAYERS:
        return text
    return f"{hidden[0]}-...-{hidden[-1]} ({len(hidden)} layers)"


def certification_line(
    eigenvalues: NDArray[np.float64],
    residual_norms: NDArray[np.float64],
    residual_tolerances: NDArray[np.float64],
    orthogonality: float,
    *,
    n_requested: int | None = None,
    reference_solver: str = "",
    reference_sin_angle: float | None = None,
    n_compared: int | None = None,
    exceeded: Sequence[int] = (),
    failure_probability: float = 0.0,
) -> str:
    """State in one line whether every requested eigenpair is certified, with its residuals.

    Parameters
    ----------
    eigenvalues : ndarray of shape (k,)
        In descending order of magnitude.
    residual_norms : ndarray of shape (k,)
        True residuals ||A v - lambda v||, absolute.
    residual_tolerances : ndarray of shape (k,)
        Largest allowed residual of each pair.
    orthogonality : float
        Norm of V'V - I.
    n_requested : int, optional
        Number of requested pairs, if fewer were found.
    reference_solver : str
        Name of the reference solver.
    reference_sin_angle : float, optional
        Sine of the largest angle to the subspace of the reference solver.
    n_compared : int, optional
        Number of pairs that the reference solver found, if fewer than requested.
    exceeded : sequence of int
        Positions, from 0, at which the reference solver has a larger eigenvalue, so that the run
        skipped one.
    failure_probability : float
        Probability with which a residual exceeds its bound, if the norms are bounds.

    Returns
    -------
    str
        ``certified: 50 of 50 eigenpairs, ...`` or ``NOT certified: 48 of 50 eigenpairs, ...;
        unconverged: 49, 50`` (counted from 1).
    """
    values, residuals = np.abs(eigenvalues), np.asarray(residual_norms)
    wanted = values.size if n_requested is None else n_requested
    largest = float(values.max(initial=0.0))
    # Not "residuals > residual_tolerances": a residual of NaN is unconverged.
    unconverged = [
        *np.flatnonzero(~(residuals <= residual_tolerances)) + 1,
        *range(values.size + 1, wanted + 1),
    ]
    skipped = [i + 1 for i in exceeded]
    certified = wanted - len({*unconverged, *skipped})
    parts = [f"{'NOT ' if certified < wanted else ''}certified: {certified} of {wanted} eigenpairs"]
    if residuals.size:
        worst = float(residuals.max()) / largest if largest > 0 else float(residuals.max())
        unit = " of lambda_1" if largest > 0 else ""
        if failure_probability > 0:
            bound = f"residuals at most {worst:.1e}{unit}"
            parts.append(f"{bound} (sampled, fails with probability {failure_probability:.0e})")
        else:
            parts.append(f"largest true residual {worst:.1e}{unit}")
        parts.append(f"|V'V-I| {orthogonality:.0e}")
    if n_compared == 0:
        parts.append(f"{reference_solver} found no pair to compare with")
    elif reference_sin_angle is not None:
        share = f" ({n_compared} pairs)" if n_compared is not None and n_compared < wanted else ""
        parts.append(f"largest angle to {reference_solver}{share} {reference_sin_angle:.0e}")
    line = ", ".join(parts)
    if unconverged:
        line += f"; unconverged: {_listed(unconverged)}"
    if skipped:
        line += f"; {reference_solver} has a larger eigenvalue: {_listed(skipped)}"
    return line


def _listed(pairs: Sequence[int]) -> str:
    shown = ", ".join(str(pair) for pair in pairs[:LISTED])
    more = len(pairs) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def few_rows_warning(n_train: int, n_test: int, validation_fraction: float, margin: float) -> str:
    """Warn if one row corresponds to more than the margin; empty otherwise.

    Accuracies of n rows are multiples of 1 / n.

    Parameters
    ----------
    n_train, n_test : int
        Numbers of rows; the share `validation_fraction` of the training rows is held out.
    margin : float
        Share of accuracy that may be lost. There is no warning for a margin of 0, which every row
        exceeds.
    """
    held_out = max(1, round(validation_fraction * n_train))
    few = [
        (f"each of {n:,} {name} rows" if n > 1 else f"the only {name} row")
        + f" corresponds to {100 / n:.3g} points"
        for n, name in ((held_out, "held-out"), (n_test, "test"))
        if n * margin < 1.0
    ]
    if not few or margin <= 0:
        return ""
    return (
        f"warning: {' and '.join(few)}, more than the margin of {100 * margin:g}, so the rows "
        "cannot show a loss of the margin: use more rows or a larger margin"
    )


def few_seeds_warning(n_seeds: int) -> str:
    """Warn if a study has fewer seeds than reliable intervals need; empty otherwise."""
    if n_seeds >= ENOUGH_SEEDS:
        return ""
    return f"{counted(n_seeds, 'seed')}: at least {ENOUGH_SEEDS} are needed for reliable intervals"


def majority_warning(
    network: str,
    validation: float,
    test: float,
    majority: tuple[float, float],
    *,
    is_baseline: bool = False,
) -> str:
    """Warn about a network that is not better than a constant prediction; empty otherwise.

    Parameters
    ----------
    network : str
        Name of the network and its input.
    validation, test : float
        Accuracies; NaN without test rows.
    majority : tuple of float
        Shares of the largest class among training and test rows.
    is_baseline : bool
        Whether other networks are compared with this one.

    Examples
    --------
    >>> majority_warning("8 on 2 inputs", 0.45, 0.44, (0.5, 0.5))[:46]
    'warning: network 8 on 2 inputs has not learnt:'
    >>> majority_warning("8 on 2 inputs", 0.9, 0.9, (0.5, 0.5))
    ''
    """
    pairs = (("validation", validation, majority[0]), ("test", test, majority[1]))
    low = [
        f"{name} {percent(accuracy)} % (largest class {percent(share)} %)"
        for name, accuracy, share in pairs
        if accuracy <= share
    ]
    if not low:
        return ""
    end = "A comparison with it means nothing. " if is_baseline else ""
    return (
        f"warning: network {network} has not learnt: {' and '.join(low)}. {end}Change "
        "training.epochs, training.learning_rate or data.scaling"
    )
