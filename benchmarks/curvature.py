"""Dominant eigenvectors of the Hessian of classifiers, compared with hessian-eigenthings.

    pip install --no-deps hessian-eigenthings==1.0.0a5
    python benchmarks/curvature.py --data-dir DATA [--data mnist cifar10] [--hidden 128 128]
        [--rows 2000] [--epochs 3] [-k 10] [--tol 1e-6] [--seeds 1] [--track 0] [--out FILE.json]

A perceptron is trained by stochastic gradient descent on the first rows of the training set. The
Hessian of its mean cross-entropy over the same rows has k dominant eigenpairs, which both
libraries find in double precision. Products with the Hessian are counted by a wrapper around each
operator; a product that is repeated with the same vector is counted and not computed again.

The Lanczos process of hessian-eigenthings makes a number of products that the caller chooses, and
has no restart and no test while it runs. So there are three counts:

* default: 2k products, converged or not;
* doubled: 2k, 4k, ... products, each time from the beginning, until its own estimates pass;
* hindsight: the least number with which its estimates pass, which nobody knows before. This is
  the optimum of a Krylov method from one random vector. Full reorthogonalisation.

Estimates pass if they are at most tol times the largest eigenvalue, the criterion of hpcembed.
True residuals of every answer are computed here from k products more, which are in the count of
hpcembed (column "verified") and are added to the others for that column. The script ends if a
residual exceeds the tolerance, or if the eigenvalues of two answers differ.

--track N measures the share of the gradient in the span of the eigenvectors after 0, ..., N epochs
of another training of the same network. Without hessian-eigenthings the comparison is left out.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hpcembed.networks.curvature import CurvatureProducts, SubspaceTracker, hessian_eigenpairs
from hpcembed.networks.training.classifier import build_mlp
from miramns.bench.harness.tables import markdown_table

SHAPES = {"mnist": 784, "cifar10": 3072}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=tuple(SHAPES), default=list(SHAPES))
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 128])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--track", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    records = []
    for name in arguments.data:
        rows, labels = images(arguments.data_dir, name, arguments.rows)
        *_, model = trained(rows, labels, arguments.hidden, arguments.epochs)
        records.append(compared(name, model, rows, labels, arguments))
        print(table(records[-1]), flush=True)
        if arguments.track:
            records[-1]["track"] = tracked(rows, labels, arguments)
            print(track_table(records[-1]["track"]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(records, indent=1))


def images(folder: Path, name: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first training rows, pixels to mean 0 and deviation 1 over all of them."""
    if name == "mnist":
        X = unpacked(folder / "mnist" / "train-images-idx3-ubyte.gz", 16, 784 * count)
        y = unpacked(folder / "mnist" / "train-labels-idx1-ubyte.gz", 8, count)
        X = X.reshape(-1, 784)
    else:
        path = folder / "cifar10" / "data_batch_1.bin"
        records = np.fromfile(path, np.uint8, 3073 * count).reshape(-1, 3073)
        X, y = records[:, 1:], records[:, 0]
    if len(X) < count:
        raise SystemExit(f"{name}: {len(X)} rows, {count} are needed: reduce --rows")
    scaled = X.astype(np.float64)
    scaled = (scaled - scaled.mean()) / scaled.std()
    return torch.from_numpy(scaled), torch.from_numpy(y.astype(np.int64))


def unpacked(path: Path, header: int, count: int) -> np.ndarray:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(header + count), np.uint8, offset=header)


def trained(
    rows: torch.Tensor, labels: torch.Tensor, hidden: list[int], epochs: int
) -> Iterator[nn.Module]:
    """The network after 0, ..., `epochs` epochs; the same object."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_mlp(rows.shape[1], hidden, 10)
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    single = rows.float()
    for epoch in range(epochs + 1):
        if epoch:
            for part in torch.randperm(len(rows), generator=order).split(64):
                optimiser.zero_grad()
                functional.cross_entropy(model(single[part]), labels[part]).backward()
                optimiser.step()
        yield model


class Products:
    """Counts products, and does not repeat one with the same vector."""

    def __init__(self) -> None:
        self.count, self._known = 0, {}

    def __call__(self, product: Any, vector: Any) -> Any:
        self.count += 1
        key = hash(np.ascontiguousarray(vector).tobytes())
        if key not in self._known:
            self._known[key] = product(vector)
        return self._known[key]


@contextmanager
def counted_products() -> Iterator[list[int]]:
    """Count the products of hpcembed: the columns of each call, by their purpose in order."""
    counts: list[int] = []
    multiply = CurvatureProducts.multiply

    def counting(products: CurvatureProducts, V: np.ndarray) -> np.ndarray:
        counts.append(V.shape[1])
        return multiply(products, V)

    with patch.object(CurvatureProducts, "multiply", counting):
        yield counts


def compared(
    name: str, model: nn.Module, rows: torch.Tensor, labels: torch.Tensor,
    arguments: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    k, tol = arguments.k, arguments.tol
    record: dict[str, Any] = {
        "data": name, "rows": len(rows), "hidden": arguments.hidden, "epochs": arguments.epochs,
        "k": k, "tol": tol, "lines": [],
    }  # fmt: skip
    for seed in range(arguments.seeds):
        values = None
        for matrix in ("hessian", "gauss_newton"):
            with counted_products() as counts:
                found = hessian_eigenpairs(
                    model, functional.cross_entropy, rows, labels, k, matrix=matrix, tol=tol,
                    seed=seed,
                )  # fmt: skip
            if sum(counts) != found.n_products + found.n_certificate_products:
                raise SystemExit("hpcembed: the result states another number of products")
            line = {"method": f"hpcembed, {matrix}", "seed": seed, "products": found.n_products,
                    "verified": sum(counts), "residual": float(found.relative_residuals.max()),
                    "seconds": found.seconds, "converged": True}  # fmt: skip
            values = found.eigenvalues if values is None else values
            record["lines"].append(line)
            record.setdefault("values", {})[matrix] = found.eigenvalues.tolist()
            if not line["residual"] <= tol:
                raise SystemExit(f"hpcembed, {matrix}: residual {line['residual']:.1e}")
        record |= {"loss": found.loss, "parameters": len(found.gradient)}
        record["lines"] += peer(model, rows, labels, values, seed, arguments)
    return record


def peer(
    model: nn.Module, rows: torch.Tensor, labels: torch.Tensor, values: np.ndarray, seed: int,
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:  # fmt: skip
    """The three counts of hessian-eigenthings."""
    try:
        from hessian_eigenthings import HessianOperator, lanczos, supervised_loss
    except ImportError:
        return []
    k, tol, products = arguments.k, arguments.tol, Products()
    exact = HessianOperator(
        copy.deepcopy(model).double(), [(rows, labels)], supervised_loss(functional.cross_entropy)
    )
    matvec = exact.matvec
    ours = CurvatureProducts(model, functional.cross_entropy, rows, labels)
    vector = torch.randn(exact.size, dtype=torch.float64, generator=torch.Generator())
    difference = np.abs(matvec(vector).numpy() - ours.multiply(vector.numpy()[:, None])[:, 0])
    if not difference.max() <= 1e-10 * float(matvec(vector).abs().max()):
        raise SystemExit("the two libraries have different Hessians")
    exact.matvec = lambda v: products(matvec, v)

    def run(steps: int) -> Any:
        return lanczos(exact, k=k, max_iter=steps, tol=tol, reorthogonalize=True, seed=seed)

    def passes(found: Any) -> bool:
        return float(found.residuals.max()) <= tol * float(found.eigenvalues.abs().max())

    def line(method: str, found: Any, count: int, seconds: float) -> dict[str, Any]:
        X, theta = found.eigenvectors, found.eigenvalues
        AX = torch.stack([matvec(one) for one in X])
        norms = (AX - theta[:, None] * X).norm(dim=1)
        worst = float(norms.max() / theta.abs().max())
        right = worst <= 1.5 * tol
        if right and not np.allclose(theta.numpy(), values, rtol=1e-8, atol=1e-8 * abs(values[0])):
            raise SystemExit(f"{method}: eigenvalues differ from those of hpcembed")
        return {"method": method, "seed": seed, "products": count, "verified": count + k,
                "residual": worst, "seconds": seconds, "converged": right}  # fmt: skip

    began = time.perf_counter()
    steps, found = 2 * k, run(2 * k)
    lines = [line("hessian-eigenthings, default", found, products.count,
                  time.perf_counter() - began)]  # fmt: skip
    while not passes(found):
        steps *= 2
        found = run(steps)
    lines.append(line("hessian-eigenthings, doubled", found, products.count, float("nan")))
    for fewest in range(k, steps + 1):
        products.count = 0
        if passes(found := run(fewest)):
            break
    lines.append(line("hessian-eigenthings, hindsight", found, products.count, float("nan")))
    return lines


def tracked(
    rows: torch.Tensor, labels: torch.Tensor, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    tracker = SubspaceTracker(functional.cross_entropy, rows, labels, arguments.k, tol=1e-4)
    models = trained(rows, labels, arguments.hidden, arguments.track)
    for epoch, model in enumerate(models):
        tracker.measure(model, epoch)
    return [
        {"epoch": one.epoch, "loss": one.loss, "gradient_norm": one.gradient_norm,
         "share": one.share, "random_share": one.random_share, "overlap": one.overlap,
         "values": one.eigenvalues.tolist(), "products": one.n_products,
         "residual": one.largest_residual}
        for one in tracker.records
    ]  # fmt: skip


def table(record: dict[str, Any]) -> str:
    ours = {one["seed"]: one for one in record["lines"] if one["method"] == "hpcembed, hessian"}
    rows = []
    for line in record["lines"]:
        own = ours[line["seed"]]
        is_peer = line["method"].startswith("hessian-eigenthings") and line["converged"]
        rows.append([
            line["method"], line["seed"], f"{line['products']}", f"{line['verified']}",
            f"{line['residual']:.1e}", "yes" if line["converged"] else "no",
            f"{own['products'] / line['products']:.2f}" if is_peer else "",
            f"{own['verified'] / line['verified']:.2f}" if is_peer else "",
        ])  # fmt: skip
    headings = ["method", "seed", "products", "verified", "largest residual / lambda_1",
                "converged", "ours / theirs", "verified, ours / theirs"]  # fmt: skip
    values = ", ".join(f"{one:.3g}" for one in record["values"]["hessian"])
    title = (f"{record['data']}, {record['rows']} rows, hidden layers {record['hidden']}, "
             f"{record['parameters']} parameters, loss {record['loss']:.3f} after "
             f"{record['epochs']} epochs; eigenvalues {values}\n")  # fmt: skip
    return title + "\n" + "\n".join(markdown_table(headings, rows, numbers_from=1)) + "\n"


def track_table(records: list[dict[str, Any]]) -> str:
    rows = [
        [one["epoch"], f"{one['loss']:.3f}", f"{one['gradient_norm']:.2e}", f"{one['share']:.3f}",
         f"{one['random_share']:.1e}",
         "" if one["overlap"] is None else f"{one['overlap']:.2f}",
         f"{one['values'][0]:.3g}", f"{one['values'][-1]:.3g}"]
        for one in records
    ]  # fmt: skip
    headings = ["epoch", "loss", "gradient", "share in the span", "of a random direction",
                "overlap with the epoch before", "lambda_1", "lambda_k"]  # fmt: skip
    return "\n".join(markdown_table(headings, rows, numbers_from=0)) + "\n"


if __name__ == "__main__":
    main()
