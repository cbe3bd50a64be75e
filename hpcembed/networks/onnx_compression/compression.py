"""Compression of a model of ONNX by dominant eigenvectors of its layers, without torch.

Steps: fold batch normalisations; passes over the calibration rows for the moments; the
eigenproblems of all layers; the loss that each layer causes alone; ranks under a budget; the
layers, each fitted to the compressed network before it; the metric on validation rows. The
eigenproblems serve every budget: :class:`OnnxCompression` keeps them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import onnx
from mpi4py import MPI

import hpcembed
from hpcembed.networks.low_rank.choice import Choice, RankProblem, Unit
from hpcembed.networks.low_rank.layer_reports import check_rows, few_rows, frontier_points
from hpcembed.networks.low_rank.layer_weights import WEIGHING_SAMPLES, measured_weights
from hpcembed.networks.low_rank.problems import rank_problem, ranks_of, solve_problems
from hpcembed.networks.low_rank.report import CompressionReport
from hpcembed.networks.low_rank.request import Request, smallest_within
from hpcembed.networks.low_rank.shape import Cost, LayerShape
from hpcembed.networks.onnx_compression.build import Solved, build, replacements_of
from hpcembed.networks.onnx_compression.folding import fold_normalisations
from hpcembed.networks.onnx_compression.graph import Network
from hpcembed.networks.onnx_compression.inference import require_onnxruntime
from hpcembed.networks.onnx_compression.layers import find_layers, read_layer
from hpcembed.networks.onnx_compression.metrics import Evaluator, Score
from hpcembed.networks.onnx_compression.model_files import check_result, read_model
from hpcembed.networks.onnx_compression.replacement import Replacement, replace_layers
from hpcembed.networks.onnx_compression.reporting import (
    batch_seconds,
    layer_reports,
    measured_errors,
    rows_digest,
)
from hpcembed.networks.onnx_compression.rows import RowData, make_rows
from hpcembed.networks.onnx_compression.sequential import fitted_replacements
from hpcembed.networks.onnx_compression.settings import OnnxSettings
from hpcembed.networks.onnx_compression.statistics import SumsCheckpoint, collect
from hpcembed.runtime.agreement import agreement, same_on_all_ranks
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.machine.threads import threads_per_rank
from hpcembed.runtime.ranks import communicator, timed_here

__all__ = ["Model", "OnnxCompression", "Validation"]

Model: TypeAlias = "onnx.ModelProto | str | os.PathLike[str]"
#: Rows, or rows and class numbers.
Validation: TypeAlias = "RowData | tuple[RowData, Any]"
#: New layers, their network, and its score on validation rows.
_Built: TypeAlias = "tuple[dict[str, Replacement], Network, Score | None]"

#: Costs that can be a budget.
MEASURES = ("parameters", "macs")

#: Exponent of the ratio of measured to predicted loss, and largest logarithm of a weight. On
#: ResNet-20 the exponents 0.5, 1 and 0 lose 8.7, 9.0 and 10.0 points of held-out training images at
#: half of the parameters.
_EXPONENT, _LIMIT = 0.5, 6.0


class OnnxCompression:
    """Moments, eigenproblems and sensitivities of a model, which serve any number of budgets.

    Collective if `comm` has several ranks.

    Parameters
    ----------
    model, calibration, validation, test, comm
        As in :func:`~hpcembed.networks.onnx_compression.compress.compress_onnx`.
    settings : OnnxSettings, optional
    named : tuple of str
        Layers that must be there, for ranks by name.
    checkpoint : SumsCheckpoint, optional
        The moments continue from the sums there.
    """

    def __init__(
        self,
        model: Model,
        calibration: RowData,
        *,
        settings: OnnxSettings | None = None,
        validation: Validation | None = None,
        test: Validation | None = None,
        comm: MPI.Comm | None = None,
        named: tuple[str, ...] = (),
        checkpoint: SumsCheckpoint | None = None,
    ) -> None:
        require_onnxruntime()
        self.settings = settings or OnnxSettings()
        self.comm = communicator(comm)
        with agreement(self.comm):
            self.settings.check()
        same_on_all_ranks(
            self.comm, settings=self.settings.as_dict(), layers_in_ranks=named,
            has_validation=validation is not None, has_test=test is not None,
        )  # fmt: skip
        self.seconds: dict[str, float] = {}
        self._threads = threads_per_rank(self.comm)
        with agreement(self.comm):
            self.original = Network.of(read_model(model))
            self.calibration = self._rows(calibration, "calibration")
            self._validation = self._rows(validation, "validation")
            self._test = self._rows(test, "test")
            if self._validation is not None and self.settings.metric == "accuracy":
                self._check_labels(self._validation)
        assert self.calibration is not None
        with timed_here(self.seconds, "fold"):
            network, self.folded, self.warnings = fold_normalisations(
                self.original, self.calibration, self.comm, self._threads
            )
        self.solved = self._solved(network, named, checkpoint)
        self.ranks = self._rank_problem()
        self.evaluator: Evaluator | None = None
        if self._validation is not None or callable(self.settings.metric):
            with timed_here(self.seconds, "validation"):
                self.evaluator = Evaluator(
                    network, self._validation, self.settings.metric, self.comm,
                    threads=self._threads,
                )  # fmt: skip
        self._built: list[tuple[Choice, float | None]] = []
        self._seconds_before = dict(self.seconds)

    def compress(self, request: Request) -> tuple[onnx.ModelProto, CompressionReport]:
        """Return the model of one request, and its report. Collective."""
        with agreement(self.comm):
            request.check(self.evaluator is not None, MEASURES, "rows")
        same_on_all_ranks(self.comm, request=request.as_dict())
        self.seconds = dict(self._seconds_before)
        choice, built = self._chosen(request)
        check_rows(
            self.statistics.layers, choice.ranks, self.statistics.samples, "the calibration has"
        )
        if built is None:
            with timed_here(self.seconds, "layers"):
                built = self._built_network(choice)
        new, network, score = built
        small = self._named(network, choice)
        model = small.proto()
        check_result(model, self.original.source)
        return model, self._report(request, choice, small, new, score)

    def _chosen(self, request: Request) -> tuple[Choice, _Built | None]:
        """Return the choice of a request, and its network if a search found it. Collective."""
        if request.budget is not None:
            ((measure, share),) = request.budget.items()
            return self.comm.bcast(self.ranks.within(measure, share * self.cost.of(measure))), None
        if request.ranks is not None:
            wanted = {
                name: ranks_of(self.solved.problems[name], rank)
                for name, rank in request.ranks.items()
            }
            check_rows(
                self.statistics.layers, wanted, self.statistics.samples, "the calibration has"
            )
            return self.ranks.of_ranks(wanted), None
        limit = request.max_loss
        assert limit is not None
        with timed_here(self.seconds, "search"):
            return smallest_within(
                self.ranks,
                request.measure,
                self.cost.of(request.measure),
                self._built_network,
                lambda built: built[2] is not None and built[2].loss <= limit,
            )

    def _built_network(self, choice: Choice) -> _Built:
        """Return the new layers of a choice, its network and its score. Collective."""
        new = self.replacements(choice)
        network = replace_layers(self.solved.network, new)
        score = None if self.evaluator is None else self.evaluator.score(network)
        self._built.append((choice, score.loss if score else None))
        return new, network, score

    def replacements(self, choice: Choice) -> dict[str, Replacement]:
        """Return new weights of the layers of a choice. Collective."""
        if all(ranks.side == "none" for ranks in choice.ranks.values()):
            return {}
        if not self.settings.sequential:
            return replacements_of(self.solved, choice)
        assert self.calibration is not None
        return fitted_replacements(
            self.solved, choice, self.calibration, self.comm,
            row_bytes=self.statistics.row_bytes, threads=self._threads,
            centre=self.settings.centre,
        )  # fmt: skip

    @property
    def cost(self) -> Cost:
        """Parameters of the model that was given, and multiply-adds of its layers."""
        macs = sum(shape.cost().macs for shape in self.statistics.shapes.values())
        return Cost(float(self.original.parameters()), macs)

    def _solved(
        self, network: Network, named: tuple[str, ...], checkpoint: SumsCheckpoint | None
    ) -> Solved:
        """Find the layers and solve their eigenproblems. Collective."""
        self.layers = find_layers(network, self.settings.layers)
        self._check_named(named)
        chosen = [layer for layer in self.layers if not layer.reason]
        if not chosen:
            raise ConfigError(
                "layers: no layer can be compressed: "
                + ("; ".join(f"{x.name}: {x.reason}" for x in self.layers[:5]) or "there is none")
            )
        with timed_here(self.seconds, "moments"):
            assert self.calibration is not None
            self.statistics = collect(
                network, self.layers, self.calibration, self.comm,
                input_side="input" in self.settings.sides, threads=self._threads,
                checkpoint=checkpoint,
            )  # fmt: skip
        data = {
            layer.name: read_layer(
                network, layer, self.statistics.shapes[layer.name],
                self.statistics.layers[layer.name],
            )
            for layer in chosen
        }  # fmt: skip
        with timed_here(self.seconds, "eigenproblems"):
            problems, shared = solve_problems(
                data, self.statistics.groups, self.comm, sides=self.settings.sides,
                weighted=False, centre=self.settings.centre,
            )  # fmt: skip
        return Solved(
            data, problems, {group.names: group for group in shared}, network,
            {layer.name: layer for layer in chosen},
        )  # fmt: skip

    def _rank_problem(self) -> RankProblem:
        problem = rank_problem(
            dict(self.solved.problems), list(self.solved.shared.values()), Cost(0.0, 0.0),
            sides=self.settings.sides, weighted=False,
        )  # fmt: skip
        chosen = problem.full().cost
        fixed = Cost(
            self.solved.network.parameters() - chosen.parameters, self.cost.macs - chosen.macs
        )
        units = [_with_one_reduction(unit, self.statistics.shapes) for unit in problem.units]
        problem = RankProblem(units, fixed)
        if self.settings.sensitivity and len(self.solved.problems) > 1:
            assert self.calibration is not None
            metric = "cosine" if self.settings.metric == "cosine" else "divergence"
            with timed_here(self.seconds, "sensitivity"):
                evaluator = Evaluator(
                    self.solved.network, self.calibration, metric, self.comm,
                    threads=self._threads, most=WEIGHING_SAMPLES,
                )  # fmt: skip
                weights = measured_weights(
                    problem,
                    lambda choice: evaluator.score(build(self.solved, choice)).loss,
                    exponent=_EXPONENT,
                    limit=_LIMIT,
                )
            problem = replace(problem, weights=weights)
        return problem

    def _named(self, network: Network, choice: Choice) -> Network:
        """Return the network with its ranks in the metadata."""
        ranks = {
            name: {"input": one.inputs, "output": one.outputs}
            for name, one in choice.ranks.items()
            if one.side != "none"
        }
        metadata = {"hpcembed.ranks": json.dumps(ranks), "hpcembed.version": hpcembed.__version__}
        return replace(network, metadata=metadata)

    def _report(
        self, request: Request, choice: Choice, small: Network,
        new: Mapping[str, Replacement], score: Score | None,
    ) -> CompressionReport:  # fmt: skip
        assert self.calibration is not None
        cut = {name: one for name, one in new.items() if choice.ranks[name].side != "none"}
        with timed_here(self.seconds, "errors"):
            measured = measured_errors(
                self.solved, cut, small, self.calibration, self.comm, self._threads,
                own_inputs=not self.settings.sequential,
            )  # fmt: skip
        before, after = batch_seconds((self.original, small), self.calibration, self._threads)
        tests = None
        if self._test is not None:
            with timed_here(self.seconds, "test"):
                evaluator = Evaluator(
                    self.solved.network, self._test, self.settings.metric, self.comm,
                    threads=self._threads,
                )  # fmt: skip
                tests = evaluator.full.value, evaluator.score(small).value
        cost = self.cost
        warnings = [text for rows in (self.calibration, self._validation, self._test)
                    if rows is not None for text in rows.warnings]  # fmt: skip
        return CompressionReport(
            layers=layer_reports(
                self.solved, self.layers, self.statistics.shapes, choice, measured, request
            ),
            frontier=frontier_points(self.ranks, self._built),
            before=Cost(cost.parameters, cost.macs, before),
            after=Cost(float(small.parameters()), choice.cost.macs, after),
            metric=self.evaluator.name if self.evaluator else "",
            full_score=self.evaluator.full.value if self.evaluator else None,
            small_score=score.value if score else None,
            loss=score.loss if score else None,
            test_scores=tests,
            settings=self.settings.as_dict() | {"request": request.as_dict()},
            samples=self.statistics.samples,
            calibration_hash=rows_digest(self.calibration),
            folded=tuple(self.folded),
            seconds=dict(self.seconds),
            warnings=(
                *dict.fromkeys(warnings),
                *self.warnings,
                *few_rows(self.statistics.layers, choice.ranks),
            ),
        )

    def _rows(self, data: Any, name: str) -> Any:
        if data is None:
            return None
        rows, labels = data if isinstance(data, tuple) else (data, None)
        return make_rows(
            rows, self.original, name, batch_size=self.settings.batch_size, labels=labels,
            comm=self.comm,
        )  # fmt: skip

    def _check_labels(self, rows: Any) -> None:
        if rows.labels is None:
            raise InputError(
                "validation: accuracy needs labels; give (rows, labels), or use "
                "metric='divergence', which needs none"
            )

    def _check_named(self, named: tuple[str, ...]) -> None:
        known = {layer.name: layer for layer in self.layers}
        for name in named:
            if name not in known:
                raise ConfigError(f"ranks: the model has no layer {name}")
            if known[name].reason:
                raise ConfigError(f"ranks: {name} cannot be compressed: {known[name].reason}")


def _with_one_reduction(unit: Unit, shapes: Mapping[str, LayerShape]) -> Unit:
    """Count the multiply-adds of a shared reduction once: it is one node of the graph."""
    alternatives = []
    for curves in unit.alternatives:
        new = []
        for curve in curves:
            shape = shapes[curve.layers[0]]
            again = (len(curve.layers) - 1) * shape.inputs * shape.input_positions
            new.append(replace(curve, macs=curve.macs - again * curve.r_in))
        alternatives.append(tuple(new))
    return Unit(tuple(alternatives))
