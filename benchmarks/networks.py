"""Compression of trained networks, beside the methods that others use, on the same data.

    python benchmarks/networks.py resnet20 --data-dir DATA --models-dir MODELS
                                  [--seeds 5] [--json FILE]

Every method gets the same calibration samples, the same folded normalisations and the same budget
of parameters (of the whole network). Seeds draw other calibration samples. Nothing is fitted to
test rows; they are read once per model. Intervals are of paired differences, ours less theirs
(Student t, 95 %).

Methods
-------
ours             compress_model with its defaults
ours, output     the same without gradients (objective="output")
ours, ONNX       compress_onnx on the ONNX export, with its defaults
weight SVD       truncated SVD of the weights, ranks by the energy of singular values per parameter
Zhang            output covariance, centred, ranks by captured energy, one layer after the other
                 (asymmetric reconstruction; arXiv 1505.06798)
BALF             whitened weights (uncentred), Lagrangian choice of ranks (arXiv 2509.25136)
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from reference_models.resnet import load_cifar10, load_resnet, normalise
from torch import nn

from hpcembed.networks.compression import ModelCompression, Request, Settings
from hpcembed.networks.compression.build import build
from hpcembed.networks.compression.sequential import build_sequentially
from hpcembed.networks.low_rank.choice import RankProblem
from hpcembed.networks.low_rank.factors import Factors
from hpcembed.networks.low_rank.problems import Side, rank_problem
from hpcembed.networks.low_rank.solved import SolvedLayers
from hpcembed.networks.onnx_compression import OnnxCompression
from hpcembed.networks.paired_intervals import paired
from miramns.bench.harness.tables import markdown_table

SHARES = (0.7, 0.59, 0.5)
CALIBRATION = 2000
BATCH = 250


@dataclass(frozen=True)
class Trial:
    """One compressed network."""

    method: str
    share: float
    seed: int
    parameters: float
    macs: float
    accuracy: float
    seconds: float


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the accuracy on normalised images, in per cent."""
    with torch.no_grad():
        hits = sum(
            int((model(normalise(x)).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return 100.0 * hits / len(labels)


def weight_svd(compression: ModelCompression) -> dict[str, Any]:
    """Return problems with the singular vectors of the weights in place of eigenvectors."""
    problems = {}
    for name, problem in compression.solved.problems.items():
        factors = []
        for W in compression.solved.data[name].weights:
            U, s, _ = np.linalg.svd(W.reshape(len(W), -1), full_matrices=False)
            factors.append(_factors(s**2, U))
        points = tuple(compression.solved.data[name].biases)
        problems[name] = replace(
            problem, output=Side(tuple(factors), points), variance=sum(f.trace for f in factors)
        )
    return problems


def uncentred(compression: ModelCompression) -> dict[str, Any]:
    """Return problems with deviations from the bias: the whitened SVD of BALF and SVD-LLM."""
    problems = {}
    for name, problem in compression.solved.problems.items():
        data, factors = compression.solved.data[name], []
        for moments, bias in zip(data.moments.outputs, data.biases, strict=True):
            values, U = np.linalg.eigh(moments.covariance(about=bias))
            factors.append(_factors(np.maximum(values[::-1], 0), U[:, ::-1]))
        problems[name] = replace(
            problem, output=Side(tuple(factors), tuple(data.biases)),
            variance=sum(f.trace for f in factors),
        )  # fmt: skip
    return problems


def _factors(values: np.ndarray, U: np.ndarray) -> Factors:
    return Factors(values, float(values.sum()), U, U.T, np.zeros(len(values)), 0.0, True, "lapack")


def rival(compression: ModelCompression, method: str, share: float) -> nn.Module:
    """Return the network of a rival at a share of the parameters."""
    problems = {
        "weight SVD": weight_svd,
        "BALF": uncentred,
        "Zhang": lambda c: dict(c.solved.problems),
    }[method](compression)
    ranks = rank_problem(problems, [], compression.ranks.fixed, sides=("output",), weighted=False)
    limit = share * compression.cost.parameters
    choice = RankProblem(ranks.units, ranks.fixed).within("parameters", limit, floor=False)
    solved = SolvedLayers(compression.solved.data, problems, {})
    if method == "Zhang":
        return build_sequentially(
            compression.model, solved, choice, compression.calibration, MPI.COMM_SELF,
            weighted=False,
        ).eval()  # fmt: skip
    return build(compression.model, solved, choice).eval()


def onnx_accuracy(
    model: nn.Module, calibration: torch.Tensor, test: tuple[torch.Tensor, torch.Tensor]
) -> Iterator[tuple[float, float, float, float]]:
    """Compress the ONNX export; yield share, parameters, multiply-adds and test accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        samples = torch.export.Dim("samples")
        torch.onnx.export(
            model, (calibration[:4],), path, dynamo=True, verbose=False,
            dynamic_shapes=({0: samples},),
        )  # fmt: skip
        compression = OnnxCompression(
            path, calibration.numpy(), test=(normalise(test[0]).numpy(), test[1].numpy())
        )
        for share in SHARES:
            _, report = compression.compress(Request(budget={"parameters": share}))
            assert report.test_scores is not None
            yield share, report.after.parameters, report.after.macs, report.test_scores[1]


def resnet_trials(arguments: argparse.Namespace) -> list[Trial]:
    """Compress ResNet-20 by all methods; no labels, no training."""
    model = load_resnet(arguments.models_dir / "resnet20-12fca82f.th").eval()
    images, _ = load_cifar10(arguments.data_dir / "cifar10", "train")
    test = load_cifar10(arguments.data_dir / "cifar10", "test")
    total = sum(p.numel() for p in model.parameters())
    trials = [Trial("whole", 1.0, 0, total, 40.55e6, accuracy(model, *test), 0.0)]
    for seed in range(arguments.seeds):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        calibration = normalise(images[order[:CALIBRATION]]).split(BATCH)
        for name, settings in {
            "ours": Settings(seed=seed),
            "ours, output": Settings(objective="output", seed=seed),
            "rivals": Settings(
                objective="output", side="output", sensitivity=False, repair="none", seed=seed
            ),
        }.items():
            began = time.perf_counter()
            compression = ModelCompression(model, calibration, settings=settings)
            common = time.perf_counter() - began
            for share in SHARES:
                for method in ("weight SVD", "Zhang", "BALF") if name == "rivals" else (name,):
                    began = time.perf_counter()
                    if name == "rivals":
                        small = rival(compression, method, share)
                        macs = float("nan")
                    else:
                        small, report = compression.compress(Request(budget={"parameters": share}))
                        macs = report.after.macs
                    seconds = common + time.perf_counter() - began
                    kept = sum(p.numel() for p in small.parameters())
                    if kept > share * total + 1:
                        raise SystemExit(f"{method}: {kept} parameters exceed the budget")
                    trial = Trial(method, share, seed, kept, macs, accuracy(small, *test), seconds)
                    print(trial, flush=True)
                    trials.append(trial)
        trials += onnx_trials(model, seed, torch.cat(calibration), test)
    return trials


def onnx_trials(
    model: nn.Module, seed: int, calibration: torch.Tensor, test: tuple[torch.Tensor, torch.Tensor]
) -> list[Trial]:
    """Return the networks of the ONNX export."""
    began = time.perf_counter()
    found = []
    for share, parameters, macs, accurate in onnx_accuracy(model, calibration, test):
        seconds = time.perf_counter() - began
        found.append(Trial("ours, ONNX", share, seed, parameters, macs, accurate, seconds))
        print(found[-1], flush=True)
    return found


def resnet20(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Print the table of ResNet-20 without training."""
    trials = resnet_trials(arguments)
    whole = trials[0].accuracy
    rows = []
    for method in dict.fromkeys(trial.method for trial in trials[1:]):
        cells = [method]
        for share in SHARES:
            mine = [t.accuracy for t in trials if (t.method, t.share) == (method, share)]
            ours = [t.accuracy for t in trials if (t.method, t.share) == ("ours", share)]
            text = f"{np.mean(mine) - whole:+.2f}"
            difference = paired(ours, mine) if method != "ours" else None
            if difference:
                text += (
                    f" (ours {difference.mean:+.2f} [{difference.low:.2f}, {difference.high:.2f}])"
                )
            cells.append(text)
        cells.append(f"{np.median([t.seconds for t in trials if t.method == method]):.0f} s")
        rows.append(cells)
    titles = ["method", *(f"{share:.0%} of the parameters" for share in SHARES), "one network"]
    print(f"\nResNet-20, whole network {whole:.2f} %: change of the test accuracy in points\n")
    print("\n".join(markdown_table(titles, rows)))
    return [vars(trial) for trial in trials]


PARTS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {"resnet20": resnet20}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    records = PARTS[arguments.part](arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
