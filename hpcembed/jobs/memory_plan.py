"""Memory estimate of each step of a job on one rank.

Sizes follow from the shape of the data alone: ``--dry-run``, which has read headers only, and the
run itself use the same numbers, and the plan of the same estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hpcembed.data.reading import Description
from hpcembed.data.settings import DataSettings
from hpcembed.embedding import Machine, Plan, Shape
from hpcembed.jobs.configuration import JobConfig
from hpcembed.jobs.embedding_methods import largest_dimension, plan_embedding
from hpcembed.runtime.memory import check_fits, format_bytes

__all__ = ["Budget", "Shape", "Training", "described_shape", "job_budget", "rows_bytes"]

#: Bytes per entry of a projection or of an uncompressed input on its way to a network (float32).
_NETWORK_BYTES = 4

#: gather: by rank 0 on all rows; data_parallel: by all ranks on their own rows.
Training = Literal["gather", "data_parallel"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory per rank, in bytes, step by step.

    Attributes
    ----------
    data : int
        Rows on one rank.
    operator : Plan
        Plan of the estimator, with the basis of the subspaces that it chooses.
    basis : int
        Krylov basis of the largest subspace that the job asks for; 0 where it leaves the choice.
    gather : int
        Projections of all rows on rank 0.
    baseline : int
        Uncompressed rows on rank 0, and this rank's share while it is sent; 0 without baseline.
    projection : int
        Projections of one rank's rows; 0 without networks.
    training : mapping
        For each input of the networks, embedded and full, how they are trained on it.
    """

    data: int
    operator: Plan
    basis: int
    gather: int
    baseline: int
    projection: int = 0
    training: Mapping[str, Training] = field(default_factory=dict)

    def describe(self, available_bytes: int) -> str:
        """Return the memory per rank as one line of text."""
        parts = {
            "data": self.data,
            "operator and basis": self.operator.bytes + self.basis,
        }
        if self.is_gathered("embedded"):
            parts["projection on rank 0"] = self.gather
        else:
            parts["projection"] = self.projection
        if self.baseline and self.is_gathered("full"):
            parts["uncompressed input on rank 0"] = self.baseline
        listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
        return f"memory per rank: {listed}; {format_bytes(available_bytes)} available"

    def is_gathered(self, name: str) -> bool:
        """Return whether rank 0 holds all rows of an input, if the job has it."""
        return self.training.get(name, "gather") == "gather"

    @property
    def held(self) -> int:
        """Bytes of the projections as networks are trained on them."""
        return self.gather if self.is_gathered("embedded") else self.projection

    def left_in_place(self, ranks: int, available_bytes: int) -> list[str]:
        """Return a line for each input whose rows stay on their ranks, with the reason."""
        needed = {"embedded": self.gather, "full": self.held + self.baseline}
        names = {"embedded": "the projection", "full": "the uncompressed input"}
        lines = []
        for name in self.training:
            if self.is_gathered(name):
                continue
            why = f"gathered on rank 0 it would take {format_bytes(needed[name])}"
            if needed[name] > available_bytes:
                why += f", {format_bytes(available_bytes)} are available"
            else:
                why = f"as classifier.parallel asks; {why}"
            lines.append(
                f"networks on {names[name]}: trained data-parallel by {ranks} "
                f"rank{'s' * (ranks > 1)}, rows stay where they are; {why}"
            )
        return lines

    def check(self, available_bytes: int) -> None:
        """Check that each step fits beside the data, which is already in memory.

        Raises
        ------
        MemoryLimitError
        """
        steps: list[tuple[int, str, str]] = [
            (self.operator.bytes + self.basis, "operator and Krylov basis", "use more ranks"),
        ]
        if self.is_gathered("embedded"):
            remedy = "lower embedding.n_components, or set classifier.parallel = auto"
            steps.append((self.gather, "the projection on rank 0", remedy))
        else:
            remedy = "lower embedding.n_components, or use more ranks"
            steps.append((self.projection, "the projection", remedy))
        if self.is_gathered("full"):
            remedy = "set classifier.baseline = false, or classifier.parallel = auto"
            taken = self.held + self.baseline
            steps.append((taken, "the uncompressed input on rank 0", remedy))
        for needed, what, remedy in steps:
            check_fits(needed, available_bytes, what, remedy)


def described_shape(data: Description, settings: DataSettings) -> Shape | None:
    """Return the shape of a data set from its headers; None where they do not hold it."""
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


def job_budget(
    job: JobConfig,
    shape: Shape,
    *,
    ranks: int,
    threads: int,
    available_bytes: int,
    say: Callable[[str], None] = lambda _line: None,
) -> Budget:
    """Return the memory estimate of a job on one rank.

    Parameters
    ----------
    say : callable
        Called with the line that describes the plan of the estimator.

    Raises
    ------
    MemoryLimitError
        When no way to find the embedding fits.
    """
    d, rows = shape.n_features, shape.n_train + shape.n_test
    dimension = largest_dimension(job, shape.n_train, d)
    k = min(job.embedding.n_components, dimension)
    plan = plan_embedding(job, shape, Machine(ranks, threads, available_bytes))
    say(plan.describe())
    columns = min(job.solver.ncv or max(job.solver.nested, default=0), dimension)
    share = -(-rows // ranks)
    has_networks = job.classifier.enabled
    projection = share * k * _NETWORK_BYTES if has_networks else 0
    gather = (rows + share) * k * _NETWORK_BYTES if has_networks else 0
    baseline = (rows + share) * d * _NETWORK_BYTES if job.classifier.baseline else 0
    baseline = baseline if has_networks else 0
    return Budget(
        data=rows_bytes(shape, ranks),
        operator=plan,
        basis=8 * (columns + 1) * -(-dimension // ranks) if columns else 0,
        gather=gather,
        baseline=baseline,
        projection=projection,
        training=_training(job, gather, projection, baseline, available_bytes),
    )


def _training(
    job: JobConfig, gather: int, projection: int, baseline: int, available_bytes: int
) -> dict[str, Training]:
    """Return how networks are trained on each input; ``auto`` gathers an input that fits."""
    asked = job.classifier.parallel
    if not job.classifier.enabled:
        return {}
    training: dict[str, Training] = {}
    if asked == "auto":
        training["embedded"] = "gather" if gather <= available_bytes else "data_parallel"
        held = gather if training["embedded"] == "gather" else projection
        training["full"] = "gather" if held + baseline <= available_bytes else "data_parallel"
    else:
        training = {"embedded": asked, "full": asked}
    if not job.classifier.baseline:
        del training["full"]
    return training
