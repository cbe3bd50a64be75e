"""How small can it go: sweeps of dimensions, networks and seeds; the search for the smallest."""

from hpcembed.study.compress import Request, run_compress
from hpcembed.study.run import run_study
from hpcembed.study.settings import StudyConfig, SweepConfig, load_study

__all__ = ["Request", "StudyConfig", "SweepConfig", "load_study", "run_compress", "run_study"]
