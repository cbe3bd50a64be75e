"""Moments, eigenproblems and sensitivities of a trained torch model, for any number of budgets.

Steps: fold batch normalisations; one pass over the calibration batches for the moments; the
eigenproblems of all layers; the damage of each layer alone, where errors are not weighted; ranks
under a budget; the layers, each fitted to the compressed network before it; repair; judgement on
validation batches.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from mpi4py import MPI
from torch import nn

from hpcembed.networks.compression.batches import Batches
from hpcembed.networks.compression.batchnorm import fold_batchnorm
from hpcembed.networks.compression.build import build, layer_data
from hpcembed.networks.compression.distillation import distill
from hpcembed.networks.compression.layers import Layer, find_layers
from hpcembed.networks.compression.metrics import Evaluator, Score
from hpcembed.networks.compression.repair import correct_batchnorm
from hpcembed.networks.compression.reporting import make_report
from hpcembed.networks.compression.request import Request, Settings
from hpcembed.networks.compression.sensitivity import measure_weights
from hpcembed.networks.compression.sequential import build_sequentially
from hpcembed.networks.compression.statistics import collect
from hpcembed.networks.compression.timing import with_seconds
from hpcembed.networks.low_rank.choice import Choice, RankProblem
from hpcembed.networks.low_rank.problems import rank_problem, ranks_of, solve_problems
from hpcembed.networks.low_rank.report import CompressionReport
from hpcembed.networks.low_rank.shape import Cost
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["ModelCompression"]

#: Steps of the bisection for `max_loss`; the last one changes the budget by less than a point.
_SEARCH_STEPS = 7


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
        self.settings.check()
        self.comm = comm if comm is not None else MPI.COMM_SELF
        self.seconds: dict[str, float] = {}
        self.calibration = Batches(calibration, "calibration")
        self.repair_batches = (
            self.calibration
            if repair_batches is None
            else Batches(repair_batches, "repair_batches")
        )
        self._original = model
        self._test = None if test is None else Batches(test, "test")
        self.model = _working_copy(model)
        with self._timed("fold"):
            self.folded = self._fold()
        self.layers = find_layers(self.model, self.settings.layers)
        if all(layer.reason for layer in self.layers):
            raise ConfigError(_no_layer(self.layers))
        with self._timed("moments"):
            self.statistics = collect(
                self.model, self.layers, self.calibration, self.comm,
                gradients=self.settings.gradients, input_side="input" in self.settings.sides,
                seed=self.settings.seed,
            )  # fmt: skip
        self.layers = [self._with_influence(layer) for layer in self.layers]
        self._check_reached(named)
        by_name = {layer.name: layer for layer in self.layers if not layer.reason}
        self.data = {
            name: layer_data(by_name[name], self.statistics.shapes[name], moments)
            for name, moments in self.statistics.layers.items()
            if name in by_name
        }
        if not self.data:
            raise ConfigError(_no_layer(self.layers))
        with self._timed("eigenproblems"):
            self.problems, self.shared = solve_problems(
                self.data, self.statistics.groups, self.comm, sides=self.settings.sides,
                weighted=self.settings.weighted, centre=self.settings.centre,
            )  # fmt: skip
        self.ranks = self._rank_problem()
        self.evaluator: Evaluator | None = None
        if validation is not None:
            with self._timed("validation"):
                self.evaluator = Evaluator(
                    self.model, Batches(validation, "validation"), self.settings.metric, self.comm
                )
        self._judged: list[tuple[Choice, float]] = []

    def compress(self, request: Request) -> tuple[nn.Module, CompressionReport]:
        """Return the model of one request, and its report. Collective."""
        request.check(has_validation=self.evaluator is not None)
        problem = self._with_seconds() if request.needs_seconds else self.ranks
        if request.max_loss is not None:
            choice = self._search(problem, request)
        elif request.budget is not None:
            ((measure, share),) = request.budget.items()
            choice = problem.within(measure, share * self._full(problem).of(measure))
        else:
            assert request.ranks is not None
            wanted = {
                name: ranks_of(self.problems[name], rank)
                for name, rank in request.ranks.items()
                if name in self.problems
            }
            choice = problem.of_ranks(wanted)
        self._check_rows(choice)
        with self._timed("layers"):
            small = self._build(choice)
        if self.settings.repair == "distill":
            with self._timed("repair"):
                distill(
                    small, self.model, [n for n, r in choice.ranks.items() if r.side != "none"],
                    self.repair_batches, self.comm, epochs=self.settings.epochs,
                    learning_rate=self.settings.learning_rate,
                    classes=self.settings.has_classes,
                )  # fmt: skip
        _restore_gradients(small, self._original)
        score = self._score(small, choice)
        report = make_report(self, request, choice, small, score, self._test_scores(small))
        return small, report

    def _with_influence(self, layer: Layer) -> Layer:
        """Return the layer, with a reason if no gradient reaches it."""
        moments = self.statistics.layers.get(layer.name)
        if layer.reason or moments is None or not moments.output_gradients:
            return layer
        if all(gradients.count for gradients in moments.output_gradients):
            return layer
        return replace(layer, reason="it does not influence the output")

    def _rank_problem(self) -> RankProblem:
        problem = rank_problem(
            self.problems, self.shared, Cost(0.0, 0.0), sides=self.settings.sides,
            weighted=self.settings.weighted,
        )  # fmt: skip
        chosen = problem.full().cost
        everything = self.cost_of_all()
        folded = float(sum(p.numel() for p in self.model.parameters()))
        fixed = Cost(folded - chosen.parameters, everything.macs - chosen.macs)
        problem = RankProblem(problem.units, fixed)
        if self.settings.weighs_layers and len(self.problems) > 1:
            with self._timed("sensitivity"):
                metric = "divergence" if self.settings.has_classes else "cosine"
                problem.weights = measure_weights(
                    self.model,
                    self.data,
                    self.problems,
                    problem,
                    self.calibration,
                    metric,
                    self.comm,
                )
        return problem

    def cost_of_all(self) -> Cost:
        """Return parameters of the model that was given, and multiply-adds of its layers."""
        parameters = float(sum(p.numel() for p in self._original.parameters()))
        macs = sum(shape.cost().macs for shape in self.statistics.shapes.values())
        return Cost(parameters, macs)

    def _full(self, problem: RankProblem) -> Cost:
        cost = self.cost_of_all()
        return Cost(cost.parameters, cost.macs, problem.full().cost.seconds)

    def _with_seconds(self) -> RankProblem:
        with self._timed("timing"):
            batch = next(iter(self.calibration)).to(_device(self.model))
            timed = with_seconds(
                self.ranks, self.model, self.data, self.problems, batch, "calibration"
            )
        # One rank's measurement is used by all.
        return self.comm.bcast(timed) if self.comm.size > 1 else timed

    def _search(self, problem: RankProblem, request: Request) -> Choice:
        """Return the smallest choice within the loss, by bisection on the budget."""
        assert self.evaluator is not None
        assert request.max_loss is not None
        full = self._full(problem).of(request.measure)
        least = problem.frontier(request.measure)[-1].cost.of(request.measure) / full
        low, high, best = least, 1.0, problem.full()
        with self._timed("search"):
            for _ in range(_SEARCH_STEPS):
                share = (low + high) / 2
                choice = problem.within(request.measure, share * full)
                loss = self._score(self._build(choice), choice)
                if loss is not None and loss.loss <= request.max_loss:
                    best, high = choice, share
                else:
                    low = share
        return best

    def _build(self, choice: Choice) -> nn.Module:
        fits = self.settings.sequential or self.settings.repair == "bias"
        if fits and any(ranks.side != "none" for ranks in choice.ranks.values()):
            small = build_sequentially(
                self.model,
                self.data,
                self.problems,
                self.shared,
                choice,
                self.calibration,
                self.comm,
                weighted=self.settings.weighted,
                centre=self.settings.centre,
                bias_only=not self.settings.sequential,
            )  # fmt: skip
        else:
            small = build(self.model, self.data, self.problems, self.shared, choice)
        if self.settings.repair == "bias" and any(r.side != "none" for r in choice.ranks.values()):
            correct_batchnorm(small, self.model, self.calibration, self.comm)
        return small.eval()

    def _score(self, small: nn.Module, choice: Choice) -> Score | None:
        if self.evaluator is None:
            return None
        score = self.evaluator.score(small)
        self._judged.append((choice, score.loss))
        return score

    @property
    def judged(self) -> list[tuple[Choice, float]]:
        """Choices that were built, with their loss on the validation batches."""
        return list(self._judged)

    def _test_scores(self, small: nn.Module) -> tuple[float, float] | None:
        if self._test is None:
            return None
        with self._timed("test"):
            evaluator = Evaluator(self.model, self._test, self.settings.metric, self.comm)
            return evaluator.full.value, evaluator.score(small).value

    def _fold(self) -> list[str]:
        """Fold on the first rank with a batch; the others take its weights. Collective."""
        batch = None
        with agreement(self.comm):
            batch = next(iter(self.calibration), None)
        owners = self.comm.allgather(batch is not None)
        if not any(owners):
            raise InputError("calibration: there is no batch")
        root = owners.index(True)
        if self.comm.size == 1:
            assert batch is not None
            return fold_batchnorm(self.model, batch.to(_device(self.model)), "calibration")
        folded, error, state = [], None, None
        if self.comm.rank == root:
            assert batch is not None
            try:
                folded = fold_batchnorm(self.model, batch.to(_device(self.model)), "calibration")
            except InputError as caught:
                error = caught
        error, folded = self.comm.bcast((error, folded), root)
        if error is not None:
            raise error
        if self.comm.rank == root:
            state = copy.deepcopy(self.model)
        self.model = self.comm.bcast(state, root)
        return list(folded)

    def _check_reached(self, named: tuple[str, ...]) -> None:
        known = {layer.name: layer for layer in self.layers}
        for name in named:
            if name not in known:
                raise ConfigError(f"ranks: the model has no layer {name}")
            if known[name].reason:
                raise ConfigError(f"ranks: {name} cannot be compressed: {known[name].reason}")
            if name not in self.statistics.layers:
                raise InputError(f"ranks: no calibration batch reaches the layer {name}")

    def _check_rows(self, choice: Choice) -> None:
        for name, ranks in choice.ranks.items():
            rows = self.statistics.layers[name].rows
            rank = max(ranks.inputs, ranks.outputs)
            if rank and rows <= rank:
                per_sample = max(rows / max(self.statistics.samples, 1), 1e-9)
                raise InputError(
                    f"layer {name}: rank {rank} needs more than {rank} rows, and the calibration "
                    f"batches have {rows}; {int(10 * rank / per_sample) + 1} samples would do"
                )

    @contextmanager
    def _timed(self, step: str) -> Any:
        began = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began


def _working_copy(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose parameters need no gradient."""
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: a torch.nn.Module is needed, not {type(model).__name__}")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ConfigError(
                f"model: {name} is not initialised; call the model with a batch before"
            )
    devices = sorted({str(p.device) for p in model.parameters()})
    if len(devices) > 1:
        raise ConfigError(
            f"model: its parameters are on {' and '.join(devices)}; move it to one device"
        )
    if devices == ["meta"]:
        raise ConfigError("model: its parameters have no values (device meta); load them first")
    if not devices:
        raise ConfigError("model: it has no parameters")
    working = copy.deepcopy(model).eval()
    return working.requires_grad_(False)


def _restore_gradients(small: nn.Module, original: nn.Module) -> None:
    """Let parameters be trained as those of the original model; new ones can be trained."""
    wanted = {name: p.requires_grad for name, p in original.named_parameters()}
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(wanted.get(name, True))


def _no_layer(layers: list[Layer]) -> str:
    reasons = [
        f"{layer.name or type(layer.module).__name__}: "
        f"{layer.reason or 'not reached by the calibration batches'}"
        for layer in layers[:5]
    ]
    return f"layers: no layer can be compressed: {'; '.join(reasons) or 'there is none'}"


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
