"""Problems of the eigensolver benchmark: generated operators, and matrices from files."""

from miramns.bench.problems.catalogue import (
    GENERATORS,
    PRESETS,
    Problem,
    file_problem,
    generated,
    select,
)

__all__ = ["GENERATORS", "PRESETS", "Problem", "file_problem", "generated", "select"]
