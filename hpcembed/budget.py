"""What each step of a job takes on one rank, said before it is taken.

Sizes follow from the shape of the data alone, so the same numbers serve ``--dry-run``, which has
read headers only, and the run itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpcembed.config import JobConfig
from hpcembed.embedding import Machine, Plan, Shape, largest_dimension, plan_embedding
from hpcembed.memory import check_fits, format_bytes

__all__ = ["Budget", "Shape", "job_budget"]

#: Bytes per entry of a projection or of an uncompressed input on its way to a network (float32).
_NETWORK_BYTES = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory per rank, in bytes, step by step.

    Attributes
    ----------
    data : int
        Rows on one rank.
    operator : Plan
        With the basis of the subspaces that it chooses.
    basis : int
        Krylov basis of the largest subspace that the job asks for; 0 where it leaves the choice.
    gather : int
        Projections of all rows on rank 0.
    baseline : int
        Uncompressed rows on rank 0, and this rank's share on its way; 0 without baseline.
    """

    data: int
    operator: Plan
    basis: int
    gather: int
    baseline: int

    def describe(self, available_bytes: int) -> str:
        """One line for the terminal."""
        parts = {
            "data": self.data,
            "operator and basis": self.operator.bytes + self.basis,
            "projection on rank 0": self.gather,
        }
        if self.baseline:
            parts["uncompressed input on rank 0"] = self.baseline
        listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
        return f"memory per rank: {listed}; {format_bytes(available_bytes)} available"

    def check(self, available_bytes: int) -> None:
        """Refuse what will not fit beside the data, which is already there.

        Raises
        ------
        MemoryLimitError
        """
        steps: list[tuple[int, str, str]] = [
            (self.operator.bytes + self.basis, "operator and Krylov basis", "use more ranks"),
            (self.gather, "the projection on rank 0", "lower embedding.n_components"),
            (
                self.gather + self.baseline,
                "the uncompressed input on rank 0",
                "set classifier.baseline = false",
            ),
        ]
        for needed, what, remedy in steps:
            check_fits(needed, available_bytes, what, remedy)


def job_budget(
    job: JobConfig,
    shape: Shape,
    *,
    ranks: int,
    threads: int,
    available_bytes: int,
    say: Callable[[str], None] = lambda _line: None,
) -> Budget:
    """Work out what a job takes on one rank. Not collective.

    Parameters
    ----------
    say : callable
        Takes the line that tells the operator's choice.

    Raises
    ------
    MemoryLimitError
        When no operator fits.
    """
    d, rows = shape.n_features, shape.n_train + shape.n_test
    dimension = largest_dimension(job, shape.n_train, d)
    k = min(job.embedding.n_components, dimension)
    plan = plan_embedding(job, shape, Machine(ranks, threads, available_bytes))
    say(plan.describe())
    columns = min(job.solver.ncv or max(job.solver.nested, default=0), dimension)
    share = -(-rows // ranks)
    has_networks = job.classifier.enabled
    baseline = (rows + share) * d * _NETWORK_BYTES if job.classifier.baseline else 0
    return Budget(
        data=share * shape.row_bytes,
        operator=plan,
        basis=8 * (columns + 1) * -(-dimension // ranks) if columns else 0,
        gather=(rows + share) * k * _NETWORK_BYTES if has_networks else 0,
        baseline=baseline if has_networks else 0,
    )
