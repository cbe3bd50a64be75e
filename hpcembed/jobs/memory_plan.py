"""Memory estimate of each step of a job on one rank.

Sizes are functions of the shape of the data. So ``--dry-run``, which reads headers only, and the
run itself use the same sizes and the same plan of the estimator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hpcembed.data.reading import Description
from hpcembed.data.settings import DataSettings
from hpcembed.embedding import Machine, Plan, Shape
from hpcembed.jobs.configuration import JobConfig
from hpcembed.jobs.embedding_methods import largest_dimension, make_embedding
from hpcembed.runtime.machine.memory import check_fits, format_bytes
from hpcembed.runtime.wording import counted

__all__ = [
    "Budget",
    "Training",
    "described_shape",
    "job_budget",
    "memory_line",
    "rows_bytes",
    "unread_budget",
]

#: Bytes per entry of a projection or of an uncompressed input on its way to a network (float32).
_NETWORK_BYTES = 4

#: gather: by rank 0 on all rows; data_parallel: by all ranks on their own rows.
Training = Literal["gather", "data_parallel"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory per rank, in bytes, step by step.

    Attributes
    ----------
    machine : Machine
        Ranks, threads, and the memory of one rank in addition to the data.
    data : int
        Rows on one rank.
    operator : Plan
        Plan of the estimator, with the basis of the subspaces that it chooses.
    basis : int
        Krylov basis of the largest subspace in the settings of the job; 0 without such a setting.
    gather : int
        Projections of all rows on rank 0.
    baseline : int
        Uncompressed rows on rank 0, and this rank's share while it is sent; 0 without baseline.
    projection : int
        Projections of one rank's rows; 0 without networks.
    training : mapping
        For each input of the networks, embedded and full, how they are trained on it.
    """

    machine: Machine
    data: int
    operator: Plan
    basis: int
    gather: int
    baseline: int
    projection: int
    training: Mapping[str, Training]

    def describe(self) -> str:
        """Return the memory per rank as one line of text."""
        where = " on rank 0" if self.is_gathered("embedded") else ""
        parts = {
            "data": self.data,
            "operator and basis": self.operator.bytes + self.basis,
            f"projection{where}": self.held,
        }
        if self.baseline and self.is_gathered("full"):
            parts["uncompressed input on rank 0"] = self.baseline
        return memory_line(parts, self.machine.available_bytes)

    def is_gathered(self, name: str) -> bool:
        """Return whether rank 0 holds all rows of an input, if the job has it."""
        return self.training.get(name, "gather") == "gather"

    @property
    def held(self) -> int:
        """Bytes of the projections as networks are trained on them."""
        return self.gather if self.is_gathered("embedded") else self.projection

    def left_in_place(self) -> list[str]:
        """Return a line for each input whose rows stay on their ranks, with the reason."""
        ranks, available = self.machine.ranks, self.machine.available_bytes
        inputs = {
            "embedded": ("the projection", self.gather),
            "full": ("the uncompressed input", self.held + self.baseline),
        }
        lines = []
        for key in self.training:
            if self.is_gathered(key):
                continue
            name, needed = inputs[key]
            why = f"gathered on rank 0 it would take {format_bytes(needed)}"
            if needed > available:
                why += f", {format_bytes(available)} are available"
            else:
                why = f"as set by classifier.parallel; {why}"
            lines.append(
                f"networks on {name}: trained data-parallel by "
                f"{counted(ranks, 'rank')}, rows stay where they are; {why}"
            )
        return lines

    def check(self) -> None:
        """Check that each step fits in addition to the data, which is already in memory.

        Raises
        ------
        MemoryLimitError
        """
        available = self.machine.available_bytes
        operator = self.operator.bytes + self.basis
        check_fits(operator, available, "operator and Krylov basis", "use more ranks")
        where, remedy = "", "use more ranks"
        if self.is_gathered("embedded"):
            where, remedy = " on rank 0", "set classifier.parallel = auto"
        remedy = f"lower embedding.n_components, or {remedy}"
        check_fits(self.held, available, f"the projection{where}", remedy)
        if self.is_gathered("full"):
            remedy = "set classifier.baseline = false, or classifier.parallel = auto"
            needed = self.held + self.baseline
            check_fits(needed, available, "the uncompressed input on rank 0", remedy)


def memory_line(parts: Mapping[str, int], available_bytes: int) -> str:
    """Return the memory of the steps of a job on one rank as one line of text.

    Parameters
    ----------
    parts : mapping of str to int
        Bytes of each step by its name.

    Examples
    --------
    >>> memory_line({"data": 2048, "projection": 512}, 2**30)
    'memory per rank: data 2.0 KiB, projection 512 B; 1.0 GiB available'
    """
    listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
    return f"memory per rank: {listed}; {format_bytes(available_bytes)} available"


def described_shape(data: Description, settings: DataSettings) -> Shape | None:
    """Return the shape of a data set from its headers; None if they do not contain it."""
    (n_train, n_test), d = data.n_rows, data.n_features
    if n_train is None or n_test is None or d is None:
        return None
    item, rows = np.dtype(data.dtype).itemsize, max(n_train + n_test, 1)
    if not data.is_sparse:
        item = 8 if settings.storage == "dense" else item
        return Shape(n_train, n_test, d, None, item * d, item)
    entries = None if data.nnz is None else data.nnz * n_train // rows
    is_single = item == 4 and settings.scaling == "none"
    return Shape(n_train, n_test, d, entries, 16 * (data.nnz or 0) // rows, 4 if is_single else 8)


def rows_bytes(shape: Shape, ranks: int) -> int:
    """Return the memory of one rank's training and test rows."""
    return -(-(shape.n_train + shape.n_test) // ranks) * shape.row_bytes


def job_budget(job: JobConfig, shape: Shape, machine: Machine) -> Budget:
    """Return the memory estimate of a job on one rank.

    Raises
    ------
    MemoryLimitError
        No engine of the estimator fits in memory.
    """
    d, rows = shape.n_features, shape.n_train + shape.n_test
    dimension = largest_dimension(job, shape.n_train, d)
    k = min(job.embedding.n_components, dimension)
    columns = min(job.solver.ncv or max(job.solver.nested, default=0), dimension)
    share = -(-rows // machine.ranks)
    entry = _NETWORK_BYTES if job.classifier.enabled else 0
    projection, gather = share * k * entry, (rows + share) * k * entry
    baseline = (rows + share) * d * entry if job.classifier.baseline else 0
    return Budget(
        machine=machine,
        data=rows_bytes(shape, machine.ranks),
        operator=make_embedding(job, machine).plan(shape, machine),
        basis=8 * (columns + 1) * -(-dimension // machine.ranks) if columns else 0,
        gather=gather,
        baseline=baseline,
        projection=projection,
        training=_training(job, gather, projection, baseline, machine.available_bytes),
    )


def unread_budget(job: JobConfig, shape: Shape, machine: Machine) -> Budget:
    """Return the memory estimate of a job whose data are not in memory yet.

    Parameters
    ----------
    machine : Machine
        With the memory of one rank before the rows are read.

    Raises
    ------
    MemoryLimitError
        No engine of the estimator fits in memory beside the rows.
    """
    available = max(0, machine.available_bytes - rows_bytes(shape, machine.ranks))
    return job_budget(job, shape, Machine(machine.ranks, machine.threads, available))


def _training(
    job: JobConfig, gather: int, projection: int, baseline: int, available_bytes: int
) -> dict[str, Training]:
    """Return how networks are trained on each input; ``auto`` gathers an input that fits."""
    classifier = job.classifier

    def chosen(needed: int) -> Training:
        if classifier.parallel != "auto":
            return classifier.parallel
        fits = needed <= available_bytes or job.resources.reproducible
        return "gather" if fits else "data_parallel"

    if not classifier.enabled:
        return {}
    training = {"embedded": chosen(gather)}
    if classifier.baseline:
        held = gather if training["embedded"] == "gather" else projection
        training["full"] = chosen(held + baseline)
    return training
