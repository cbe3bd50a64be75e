"""What each step of a job takes on one rank, said before it is taken.

Sizes follow from the shape of the data alone, so the same numbers serve ``--dry-run``, which has
read headers only, and the run itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcembed.config import JobConfig
from hpcembed.embedding import SolverSettings, engine_tolerance
from hpcembed.memory import check_fits, format_bytes
from hpcembed.operators import EnginePlan, expected_products, plan_engine

__all__ = ["Budget", "Shape", "job_budget", "solver_settings"]

#: Bytes per entry of a projection or of an uncompressed input on its way to a network (float32).
_NETWORK_BYTES = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a data set, before or after it is read.

    Attributes
    ----------
    n_train, n_test, n_features : int
    n_nonzeros : int or None
        Stored entries of sparse training rows.
    row_bytes : int
        Memory of one row as it is held.
    """

    n_train: int
    n_test: int
    n_features: int
    n_nonzeros: int | None
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory per rank, in bytes, step by step.

    Attributes
    ----------
    data : int
        Rows on one rank.
    operator : EnginePlan
        With the basis of the subspaces that it chooses.
    basis : int
        Krylov basis of the largest subspace that the job asks for; 0 where it leaves the choice.
    gather : int
        Projections of all rows on rank 0.
    baseline : int
        Uncompressed rows on rank 0, and this rank's share on its way; 0 without baseline.
    """

    data: int
    operator: EnginePlan
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


def solver_settings(job: JobConfig, **more: Any) -> SolverSettings:
    """How the job wants its eigenproblem solved; `more` are further settings. Not collective."""
    return SolverSettings(
        name=job.solver.name,
        variant=job.solver.variant,
        criterion="relative",
        max_it=job.solver.max_it,
        ncv=job.solver.ncv,
        nested=job.solver.nested,
        reference=job.solver.reference,
        **more,
    )


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
    k, d = min(job.embedding.n_components, shape.n_features), shape.n_features
    rows = shape.n_train + shape.n_test
    plan = plan_engine(
        shape.n_train,
        d,
        k,
        ranks=ranks,
        threads=threads,
        available_bytes=available_bytes,
        n_nonzeros=shape.n_nonzeros,
        item_bytes=-(-shape.row_bytes // d) if shape.n_nonzeros is None else 8,
        tol=engine_tolerance(job.solver.tol, relative=True),
        n_reference=2 * expected_products(k) if job.solver.reference else 0,
        single_vector=solver_settings(job).needs_single_vectors,
        kind=job.embedding.operator,
    )
    say(plan.describe())
    columns = min(job.solver.ncv or max(job.solver.nested, default=0), d)
    share = -(-rows // ranks)
    has_networks = job.classifier.enabled
    baseline = (rows + share) * d * _NETWORK_BYTES if job.classifier.baseline else 0
    return Budget(
        data=share * shape.row_bytes,
        operator=plan,
        basis=8 * (columns + 1) * -(-d // ranks) if columns else 0,
        gather=(rows + share) * k * _NETWORK_BYTES if has_networks else 0,
        baseline=baseline if has_networks else 0,
    )
