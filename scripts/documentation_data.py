"""Files that the commands of the README and of the pages take as an example of the reader's own.

All of them are made from scikit-learn's digits, or generated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_data"]


def write_data(folder: Path) -> None:
    """Write tables, arrays, ratings and an ONNX model into a folder.

    Files
    -----
    train.csv, table.csv, DATA/train.csv
        Digits with the column ``class``.
    new.csv
        Digits without it.
    rows.npy, labels.npy
        The same rows as arrays; rows in single precision.
    model.onnx
        A linear classifier of the rows, as a network with one hidden layer.
    ratings.csv
        Users, items and ratings.
    houses.csv
        Sizes, years and places of houses, and their prices.
    """
    from sklearn.datasets import load_digits

    rows, labels = load_digits(return_X_y=True)
    rows = (rows / 16).astype(np.float32)
    names = [f"pixel{number}" for number in range(rows.shape[1])]
    table = np.column_stack([rows, labels])
    (folder / "DATA").mkdir()
    for name in ("train.csv", "table.csv", "DATA/train.csv"):
        _write_table(folder / name, [*names, "class"], table)
    _write_table(folder / "new.csv", names, rows[:100])
    np.save(folder / "rows.npy", rows)
    np.save(folder / "labels.npy", labels)
    _write_ratings(folder / "ratings.csv")
    _write_houses(folder / "houses.csv")
    _write_model(folder / "model.onnx", rows, labels)


def _write_table(path: Path, names: list[str], rows: NDArray[np.float64]) -> None:
    np.savetxt(path, rows, delimiter=",", header=",".join(names), comments="", fmt="%g")


def _write_ratings(path: Path) -> None:
    random = np.random.default_rng(0)
    users, items = random.normal(size=(60, 3)), random.normal(size=(40, 3))
    seen = np.argwhere(random.random((60, 40)) < 0.4)
    ratings = 3 + np.einsum("ij,ij->i", users[seen[:, 0]], items[seen[:, 1]])
    lines = [f"u{u},i{i},{r:.2f}" for (u, i), r in zip(seen, ratings, strict=True)]
    path.write_text("\n".join(["user,item,rating", *lines, ""]), encoding="utf-8")


def _write_houses(path: Path) -> None:
    random = np.random.default_rng(0)
    size, year = random.uniform(40, 240, 600), random.integers(1900, 2020, 600)
    place = random.choice(["city", "suburb", "village"], 600)
    worth = 2000 * size + 900 * (year - 1900) + np.where(place == "city", 120_000, 0)
    price = worth + random.normal(0, 12_000, 600)
    lines = [
        f"{s:.1f},{y},{where},{p:.2f}"
        for s, y, where, p in zip(size, year, place, price, strict=True)
    ]
    path.write_text("\n".join(["size,year,place,price", *lines, ""]), encoding="utf-8")


def _write_model(path: Path, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    from onnx import TensorProto, helper, numpy_helper, save
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier((128,), max_iter=500, tol=1e-3, random_state=0).fit(rows, labels)
    weights = [*zip(network.coefs_, network.intercepts_, strict=True)]
    constants, nodes, value = [], [], "rows"
    for number, (weight, bias) in enumerate(weights):
        named = {f"w{number}": weight, f"b{number}": bias}
        constants += [numpy_helper.from_array(a.astype(np.float32), n) for n, a in named.items()]
        last = number == len(weights) - 1
        out = "logits" if last else f"y{number}"
        nodes.append(helper.make_node("Gemm", [value, *named], [out]))
        value = out
        if not last:
            nodes.append(helper.make_node("Relu", [out], [value := f"h{number}"]))
    shapes = (("rows", rows.shape[1]), ("logits", len(network.classes_)))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", d]) for n, d in shapes]
    graph = helper.make_graph(nodes, "digits", ends[:1], ends[1:], constants)
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    write_data(parser.parse_args().folder)
