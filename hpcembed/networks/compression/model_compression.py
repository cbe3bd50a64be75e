"""Moments, eigenproblems and sensitivities of a trained torch model, for any number of budgets.

Steps: fold batch normalisations; one pass over the calibration batches for the moments; the
eigenproblems of all layers; the loss that each layer causes alone, where errors are not weighted;
ranks under a budget; the layers, each fitted to the compressed network before it; repair; the
metric on validation batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import torch
from mpi4py import MPI
from torch import nn

from hpcembed.networks.compression.batches import Batch, Batches
from hpcembed.networks.compression.batchnorm import correct_batchnorm, fold_batchnorm, fold_pairs
from hpcembed.networks.compression.build import build, layer_data
from hpcembed.networks.compression.distillation import distill
from hpcembed.networks.compression.layers import Layer, find_layers
from hpcembed.networks.compression.metrics import Evaluator, Score
from hpcembed.networks.compression.model_copies import (
    copy_model,
    restore_gradients,
    weights_hash,
    working_copy,
)
from hpcembed.networks.compression.reporting import NOT_REACHED, layer_reports, measured_errors
from hpcembed.networks.compression.sequential import build_sequentially
from hpcembed.networks.compression.settings import Settings
from hpcembed.networks.compression.statistics import collect
from hpcembed.networks.compression.timing import layer_seconds, model_seconds, with_seconds
from hpcembed.networks.low_rank.choice import Choice, RankProblem
from hpcembed.networks.low_rank.layer_reports import check_rows, few_rows, frontier_points
from hpcembed.networks.low_rank.layer_weights import WEIGHING_SAMPLES, measured_weights
from hpcembed.networks.low_rank.problems import rank_problem, ranks_of, solve_problems
from hpcembed.networks.low_rank.report import CompressionReport
from hpcembed.networks.low_rank.request import Request, smallest_within
from hpcembed.networks.low_rank.shape import Cost
from hpcembed.networks.low_rank.solved import SolvedLayers
from hpcembed.runtime.agreement import agreement, on_rank, same_on_all_ranks
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import communicator, timed_here

__all__ = ["ModelCompression"]

Result = TypeVar("Result")


class ModelCompression:
    """Moments, eigenproblems and sensitivities of a model, which serve any number of budgets.

    Parameters
    ----------
    model, calibration, validation, test, repair_batches, comm
        As in :func:`~hpcembed.networks.compression.compress.compress_model`.
    settings : Settings, optional
    named : tuple of str
        Layers that must be reached by the calibration batches.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    >>> compression = ModelCompression(model, [torch.randn(300, 20)])
    >>> for share in (0.8, 0.5):
    ...     small, report = compression.compress(Request(budget={"parameters": share}))
    ...     print(report.parameters_kept <= share)
    True
    True
    """

    @torch.inference_mode(False)
    @torch.enable_grad()
    def __init__(
        self,
        model: nn.Module,
        calibration: Iterable[Any],
        *,
        settings: Settings | None = None,
        validation: Iterable[Any] | None = None,
        test: Iterable[Any] | None = None,
        repair_batches: Iterable[Any] | None = None,
        comm: MPI.Comm | None = None,
        named: tuple[str, ...] = (),
    ) -> None:
        self.settings = settings or Settings()
        self.comm = communicator(comm)
        self.seconds: dict[str, float] = {}
        self._original = model
        with agreement(self.comm):
            self.settings.check()
            self.model = working_copy(model)
            self.calibration = Batches(calibration, "calibration")
            self._validation = None if validation is None else Batches(validation, "validation")
            self._test = None if test is None else Batches(test, "test")
            self._repair_batches = (
                self.calibration
                if repair_batches is None
                else Batches(repair_batches, "repair_batches")
            )
        same_on_all_ranks(
            self.comm, settings=self.settings.as_dict(), layers_in_ranks=named,
            has_validation=validation is not None, has_test=test is not None,
            model=weights_hash(model),
        )  # fmt: skip
        with timed_here(self.seconds, "fold"):
            self.folded = self._fold()
        self.layers = find_layers(self.model, self.settings.layers)
        if all(layer.reason for layer in self.layers):
            raise ConfigError(_no_layer(self.layers))
        with timed_here(self.seconds, "moments"):
            self.statistics = collect(
                self.model, self.layers, self.calibration, self.comm,
                gradients=self.settings.gradients, input_side="input" in self.settings.sides,
                seed=self.settings.seed,
            )  # fmt: skip
        self.layers = [self._with_influence(layer) for layer in self.layers]
        self._check_reached(named)
        self.solved = self._solve()
        self.ranks = self._rank_problem()
        self.evaluator: Evaluator | None = None
        if self._validation is not None or callable(self.settings.metric):
            with timed_here(self.seconds, "validation"):
                self.evaluator = Evaluator(
                    self.model, self._validation, self.settings.metric, self.comm
                )
        self._built: list[tuple[Choice, float | None]] = []
        self._seconds_before = dict(self.seconds)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def compress(self, request: Request) -> tuple[nn.Module, CompressionReport]:
        """Return the model of one request, and its report. Collective."""
        with agreement(self.comm):
            request.check(has_validation=self.evaluator is not None)
        same_on_all_ranks(self.comm, request=request.as_dict())
        self.seconds = dict(self._seconds_before)
        problem = self._with_seconds() if request.needs_seconds else self.ranks
        choice, built = self._chosen(problem, request)
        check_rows(
            self.statistics.layers, choice.ranks, self.statistics.samples,
            "the calibration batches have",
        )  # fmt: skip
        if built is None:
            with timed_here(self.seconds, "layers"):
                built = self._build(choice), None
        small, score = built
        if self.settings.repair == "distill":
            score = None  # of the model before its repair
            with timed_here(self.seconds, "repair"):
                distill(
                    small, self.model, _cut(choice), self._repair_batches, self.comm,
                    epochs=self.settings.epochs, learning_rate=self.settings.learning_rate,
                    classes=self.settings.has_classes,
                )  # fmt: skip
        restore_gradients(small, self._original)
        if score is None:
            score = self._score(small, choice)
        return small, self._report(request, choice, small, score)

    def _solve(self) -> SolvedLayers:
        """Solve the eigenproblems of the layers that the batches reach. Collective."""
        by_name = {layer.name: layer for layer in self.layers if not layer.reason}
        data = {
            name: layer_data(by_name[name], self.statistics.shapes[name], moments)
            for name, moments in self.statistics.layers.items()
            if name in by_name
        }
        if not data:
            raise ConfigError(_no_layer(self.layers))
        with timed_here(self.seconds, "eigenproblems"):
            problems, shared = solve_problems(
                data, self.statistics.groups, self.comm, sides=self.settings.sides,
                weighted=self.settings.weighted, centre=self.settings.centre,
            )  # fmt: skip
        return SolvedLayers(data, problems, {group.names: group for group in shared})

    def _with_influence(self, layer: Layer) -> Layer:
        """Return the layer, with a reason if no gradient reaches it."""
        moments = self.statistics.layers.get(layer.name)
        if layer.reason or moments is None or not moments.output_gradients:
            return layer
        if all(gradients.count for gradients in moments.output_gradients):
            return layer
        return replace(layer, reason="no gradient goes from the output to it")

    def _rank_problem(self) -> RankProblem:
        problem = rank_problem(
            dict(self.solved.problems), list(self.solved.shared.values()), Cost(0.0, 0.0),
            sides=self.settings.sides, weighted=self.settings.weighted,
        )  # fmt: skip
        chosen = problem.full().cost
        folded = float(sum(p.numel() for p in self.model.parameters()))
        problem.fixed = Cost(folded - chosen.parameters, self.cost.macs - chosen.macs)
        if self.settings.weighs_layers and len(self.solved.problems) > 1:
            with timed_here(self.seconds, "sensitivity"):
                metric = "divergence" if self.settings.has_classes else "cosine"
                with agreement(self.comm):
                    first = self.calibration.first(WEIGHING_SAMPLES)
                evaluator = Evaluator(self.model, first, metric, self.comm)
                problem.weights = measured_weights(
                    problem,
                    lambda choice: evaluator.score(build(self.model, self.solved, choice)).loss,
                    exponent=1.0, limit=4.0,
                )  # fmt: skip
        return problem

    @cached_property
    def cost(self) -> Cost:
        """Parameters of the model that was given, and multiply-adds of its layers."""
        parameters = float(sum(p.numel() for p in self._original.parameters()))
        macs = sum(shape.cost().macs for shape in self.statistics.shapes.values())
        return Cost(parameters, macs)

    def _with_seconds(self) -> RankProblem:
        """Return the problem with seconds, which the first rank with a batch measures."""

        def measure(batch: Batch) -> RankProblem:
            batch = batch.to(_device(self.model))
            return with_seconds(self.ranks, self.model, self.solved, batch, "calibration")

        with timed_here(self.seconds, "timing"):
            return self._on_first_batch(measure)

    def _chosen(
        self, problem: RankProblem, request: Request
    ) -> tuple[Choice, tuple[nn.Module, Score | None] | None]:
        """Return the choice of a request, with model and score if a search found it."""
        full = replace(self.cost, seconds=problem.full().cost.seconds)
        if request.budget is not None:
            ((measure, share),) = request.budget.items()
            return problem.within(measure, share * full.of(measure)), None
        if request.ranks is not None:
            wanted = {
                name: ranks_of(self.solved.problems[name], rank)
                for name, rank in request.ranks.items()
            }
            return problem.of_ranks(wanted), None
        limit = request.max_loss
        assert limit is not None

        def build_and_score(choice: Choice) -> tuple[nn.Module, Score | None]:
            small = self._build(choice)
            return small, self._score(small, choice)

        def accept(built: tuple[nn.Module, Score | None]) -> bool:
            return built[1] is not None and built[1].loss <= limit

        with timed_here(self.seconds, "search"):
            return smallest_within(
                problem, request.measure, full.of(request.measure), build_and_score, accept
            )

    def _build(self, choice: Choice) -> nn.Module:
        """Return the model of a choice, before repair by training. Collective."""
        if not _cut(choice):
            return build(self.model, self.solved, choice)
        if self.settings.sequential or self.settings.repair == "bias":
            small = build_sequentially(
                self.model, self.solved, choice, self.calibration, self.comm,
                weighted=self.settings.weighted, centre=self.settings.centre,
                bias_only=not self.settings.sequential,
            )  # fmt: skip
        else:
            small = build(self.model, self.solved, choice)
        if self.settings.repair == "bias":
            correct_batchnorm(small, self.model, self.calibration, self.comm)
        return small.eval()

    def _score(self, small: nn.Module, choice: Choice) -> Score | None:
        if self.evaluator is None:
            self._built.append((choice, None))
            return None
        score = self.evaluator.score(small)
        self._built.append((choice, score.loss))
        return score

    def _report(
        self, request: Request, choice: Choice, small: nn.Module, score: Score | None
    ) -> CompressionReport:
        """Return the report. Collective."""
        cut = _cut(choice)
        channels = {name: self.solved.data[name].shape.outputs for name in cut}
        measured = measured_errors(
            self.model, small, channels, self.calibration, self.comm,
            own_inputs=not self.settings.sequential and self.settings.repair == "none",
        )  # fmt: skip
        tests = None
        if self._test is not None:
            with timed_here(self.seconds, "test"):
                evaluator = Evaluator(self.model, self._test, self.settings.metric, self.comm)
                tests = evaluator.full.value, evaluator.score(small).value

        def measure(batch: Batch) -> tuple[dict[str, list[float]], list[float]]:
            batch = batch.to(_device(self.model))
            replaced = {name: [small.get_submodule(name)] for name in cut}
            return (
                layer_seconds(self.model, batch, "calibration", replaced),
                model_seconds((self.model, small), batch, "calibration"),
            )

        seconds, (before, after) = self._on_first_batch(measure)
        unreached = [
            layer.name
            for layer in self.layers
            if not layer.reason and layer.name not in self.statistics.layers
        ]
        warnings = few_rows(self.statistics.layers, choice.ranks)
        if unreached:
            warnings.append(f"{NOT_REACHED}: {', '.join(unreached[:5])}")
        wanted = (request.budget or {}).get("seconds")
        if wanted is not None and after > wanted * before:
            warnings.append(
                f"the network takes {after / before:.3g} of the seconds, more than {wanted:g}: "
                "seconds of layers do not add up, or other programs are running"
            )
        return CompressionReport(
            layers=layer_reports(
                self.layers, self.statistics, self.solved, choice, measured, seconds, request
            ),
            frontier=frontier_points(self.ranks, self._built),
            before=replace(self.cost, seconds=before),
            after=Cost(float(sum(p.numel() for p in small.parameters())), choice.cost.macs, after),
            metric=self.evaluator.name if self.evaluator else "",
            full_score=self.evaluator.full.value if self.evaluator else None,
            small_score=score.value if score else None,
            loss=score.loss if score else None,
            test_scores=tests,
            settings=self.settings.as_dict() | {"request": request.as_dict()},
            samples=self.statistics.samples,
            calibration_hash=self.statistics.calibration_hash,
            folded=tuple(self.folded),
            seconds=dict(self.seconds),
            warnings=tuple(warnings),
        )

    def _fold(self) -> list[str]:
        """Fold the pairs that the first rank with a batch finds. Collective."""

        def find(batch: Batch) -> dict[str, str]:
            tried = copy_model(self.model)
            return fold_batchnorm(tried, batch.to(_device(self.model)), "calibration")

        pairs = self._on_first_batch(find)
        fold_pairs(self.model, pairs)
        return list(pairs)

    def _on_first_batch(self, compute: Callable[[Batch], Result]) -> Result:
        """Compute on the first rank with a batch; send the result or the error. Collective."""
        batch = None
        with agreement(self.comm):
            batch = next(iter(self.calibration), None)
        owners = self.comm.allgather(batch is not None)
        if not any(owners):
            raise InputError("calibration: there is no batch")
        return on_rank(self.comm, owners.index(True), partial(compute, cast(Batch, batch)))

    def _check_reached(self, named: tuple[str, ...]) -> None:
        known = {layer.name: layer for layer in self.layers}
        for name in named:
            if name not in known:
                raise ConfigError(f"ranks: the model has no layer {name}")
            if known[name].reason:
                raise ConfigError(f"ranks: {name} cannot be compressed: {known[name].reason}")
            if name not in self.statistics.layers:
                raise InputError(f"ranks: no calibration batch reaches the layer {name}")


def _cut(choice: Choice) -> list[str]:
    return [name for name, ranks in choice.ranks.items() if ranks.side != "none"]


def _no_layer(layers: list[Layer]) -> str:
    reasons = [
        f"{layer.name or type(layer.module).__name__}: {layer.reason or NOT_REACHED}"
        for layer in layers[:5]
    ]
    return f"layers: no layer can be compressed: {'; '.join(reasons) or 'there is none'}"


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
