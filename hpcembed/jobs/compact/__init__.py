"""Compression and studies from Python, on data that the caller holds in memory.

:func:`compress` is ``hpcembed compress`` and :func:`study` is ``hpcembed study``, with the same
search, the same statistics and the same files. The estimators follow scikit-learn's contract.
"""

from hpcembed.jobs.compact.calls import compress, study
from hpcembed.jobs.compact.estimators import CompactClassifier, CompactRegressor
from hpcembed.jobs.compact.results import CompressReport, StudyResult

__all__ = [
    "CompactClassifier",
    "CompactRegressor",
    "CompressReport",
    "StudyResult",
    "compress",
    "study",
]
