"""Linear classifiers (heads) on frozen features, and on projections of these features."""

from hpcembed.runtime.optional import optional_imports

with optional_imports():
    from hpcembed.networks.heads.logistic import LogisticHead, fit_head, select_head
    from hpcembed.networks.heads.projections import PROJECTIONS, Calibration, Projection
    from hpcembed.networks.heads.results import HeadResult, HeadStudy, HeadSummary
    from hpcembed.networks.heads.study import study_heads
    from hpcembed.networks.paired_intervals import Difference, paired

__all__ = [
    "PROJECTIONS",
    "Calibration",
    "Difference",
    "HeadResult",
    "HeadStudy",
    "HeadSummary",
    "LogisticHead",
    "Projection",
    "fit_head",
    "paired",
    "select_head",
    "study_heads",
]
