"""Word vectors of 20 Newsgroups, judged by human similarities, beside scipy on the same matrix.

    python benchmarks/word_vectors.py --data-dir DATA [--k 100 300] [--out FOLDER]
    mpiexec -n 2 python benchmarks/word_vectors.py --data-dir DATA --counting

DATA holds text/20_newsgroups.tar.gz and text/word_similarity/*.txt. The first form fits
`hpcembed.WordVectors` for every k, then finds the same eigenvectors with scipy's eigsh and svds on
the same positive pointwise mutual information, and ranks the pairs of each list by the cosines of
their vectors: Spearman's correlation with the human scores, over the pairs whose words both are in
the vocabulary. It prints Markdown and, with --out, writes word_vectors.md and word_vectors.json.
Peers run in one process, so with several ranks there are none.

The second form times counting alone, on as many ranks as it is started on.

An answer whose true residuals or eigenvalues are off is called wrong and has no time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse.linalg
import scipy.stats
from mpi4py import MPI

from hpcembed import WordVectors
from hpcembed.data.text.reading import read_text
from hpcembed.data.text.tokens import index_tokens
from hpcembed.data.text.vocabulary_learning import learn_vocabulary
from hpcembed.operators import TokenDocuments, Window, positive_information
from hpcembed.operators.cooccurrence.word_cooccurrence import cooccurrence

#: Largest true residual over the largest eigenvalue, and difference of eigenvalues to the first
#: method's over the same, of an answer that counts as right.
RIGHT = 1e-5
TOLERANCE = 1e-6
LISTS = {
    "WordSim-353": "EN-WS-353-ALL.txt",
    "MEN": "EN-MEN-TR-3k.txt",
    "SimLex-999": "EN-SIMLEX-999.txt",
}


@dataclass
class Row:
    """One method at one k."""

    k: int
    method: str
    seconds: float | None
    residual: float
    right: bool
    spearman: dict[str, float] = field(default_factory=dict)


def main() -> int:
    arguments = parsed()
    comm = MPI.COMM_WORLD
    documents, vocabulary = corpus(arguments, comm)
    if arguments.counting:
        return count_only(documents, len(vocabulary), arguments, comm)
    pairs = {name: read_pairs(arguments.data_dir, file) for name, file in LISTS.items()}
    rows: list[Row] = []
    for k in arguments.k:
        rows += compared(documents, vocabulary, k, pairs, arguments, comm)
    if comm.rank == 0:
        report(rows, pairs, vocabulary, arguments, comm.size)
    return 0 if all(row.right for row in rows) else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data-dir", type=Path, required=True)
    add("--archive", default="text/20_newsgroups.tar.gz", help="documents, below --data-dir")
    add("--k", type=int, nargs="+", default=[100, 300])
    add("--window", type=int, default=5)
    add("--weighting", default="none", choices=["none", "harmonic", "linear"])
    add("--shift", type=float, default=1.0)
    add("--smoothing", type=float, default=0.75)
    add("--power", type=float, default=0.5)
    add("--min-df", type=int, default=5, help="documents that a word must be in")
    add("--peers", nargs="*", default=["eigsh", "svds"], choices=["eigsh", "svds"])
    add("--counting", action="store_true", help="time counting alone")
    add("--repeats", type=int, default=3, help="of counting; the best counts")
    add("--out", type=Path, help="folder for word_vectors.md and .json")
    return parser.parse_args()


def corpus(arguments: argparse.Namespace, comm: MPI.Intracomm) -> tuple[TokenDocuments, Any]:
    """This rank's documents as numbers of terms, and the vocabulary."""
    read = read_text(
        arguments.data_dir / arguments.archive, comm, headers="remove", encoding="latin-1"
    )
    indexed = index_tokens(read.texts)
    vocabulary = learn_vocabulary(indexed, comm, min_df=arguments.min_df)
    tokens = vocabulary.term_ids(indexed).astype(np.int32)
    return TokenDocuments(tokens, indexed.starts), vocabulary


# ------------------------------------------------------------------------------------- counting


def count_only(
    documents: TokenDocuments, n_terms: int, arguments: argparse.Namespace, comm: MPI.Intracomm
) -> int:
    window = Window(arguments.window, arguments.weighting)
    taken, busy = [], []
    for _ in range(arguments.repeats):
        comm.Barrier()
        began, worked = time.perf_counter(), time.process_time()
        counts = cooccurrence(documents, n_terms, comm, window=window)
        busy.append(comm.allreduce(time.process_time() - worked, op=MPI.MAX))
        taken.append(time.perf_counter() - began)
    expected = comm.allreduce(pair_weight(documents, window))
    found = comm.allreduce(float(counts.rows.data.sum()))
    right = bool(abs(found - 2 * expected) <= 1e-9 * found)
    entries = counts.n_nonzeros
    if comm.rank == 0:
        record = {
            "ranks": comm.size,
            "seconds": min(taken) if right else None,
            "all_seconds": taken,
            # of the slowest rank, waiting for messages included: a guide on a busy machine
            "processor_seconds": min(busy),
            "terms": n_terms,
            "entries": entries,
            "total": found,
            "right": right,
        }
        print(json.dumps(record))
    return 0 if right else 1


def pair_weight(documents: TokenDocuments, window: Window) -> float:
    """Weight of all pairs of this rank, by a mask for each distance: another way to the total."""
    weights, denominator = window.weights()
    tokens = documents.tokens
    place = np.repeat(np.arange(documents.n_documents), np.diff(documents.offsets))
    known = tokens >= 0
    total = 0.0
    for s, weight in enumerate(weights, start=1):
        both = known[:-s] & known[s:] & (place[:-s] == place[s:])
        total += weight * np.count_nonzero(both)
    return total / denominator


# ------------------------------------------------------------------------------------- vectors


def compared(
    documents: TokenDocuments,
    vocabulary: Any,
    k: int,
    pairs: dict[str, Any],
    arguments: argparse.Namespace,
    comm: MPI.Intracomm,
) -> list[Row]:
    """Ours, and the peers on the same matrix."""
    settings = {"shift": arguments.shift, "smoothing": arguments.smoothing}
    ours = WordVectors(
        k,
        window=arguments.window,
        weighting=arguments.weighting,
        power=arguments.power,
        tol=TOLERANCE,
        **settings,
    ).fit(documents, vocabulary=vocabulary, comm=comm)
    residual = float(np.max(ours.residual_norms_) / abs(ours.eigenvalues_[0]))
    seconds = ours.seconds_["solve"]
    row = judged(k, "hpcembed", seconds, residual, residual <= RIGHT)
    row.spearman = correlations(ours.vectors_, vocabulary, pairs)
    rows = [row]
    if comm.size > 1:
        return rows
    window = Window(arguments.window, arguments.weighting)
    counts = cooccurrence(documents, len(vocabulary), comm, window=window)
    M = positive_information(counts, **settings).rows
    solvers: dict[str, Callable[[Any, int], tuple[Any, Any]]] = {"eigsh": eigsh, "svds": svds}
    for name in arguments.peers:
        began = time.perf_counter()
        values, vectors = solvers[name](M, k)
        seconds = time.perf_counter() - began
        residuals = np.linalg.norm(M @ vectors - vectors * values, axis=0)
        residual = float(residuals.max() / np.abs(values).max())
        gap = np.max(np.abs(np.sort(np.abs(values))[::-1] - np.abs(ours.eigenvalues_)))
        right = residual <= RIGHT and gap <= RIGHT * np.abs(values).max()
        row = judged(k, f"scipy {name}", seconds, residual, bool(right))
        scaled = vectors * np.abs(values) ** arguments.power
        row.spearman = correlations(scaled, vocabulary, pairs)
        rows.append(row)
    return rows


def judged(k: int, method: str, seconds: float, residual: float, right: bool) -> Row:
    verdict = f"{seconds:.1f} s" if right else "wrong"
    print(f"k = {k}, {method}: {verdict}, residual {residual:.1e}", file=sys.stderr, flush=True)
    return Row(k, method, seconds if right else None, residual, right)


def eigsh(M: Any, k: int) -> tuple[Any, Any]:
    return scipy.sparse.linalg.eigsh(M, k, which="LM", tol=TOLERANCE, v0=start(M))


def svds(M: Any, k: int) -> tuple[Any, Any]:
    """Left singular vectors; the sign of an eigenvalue is that of the Rayleigh quotient."""
    # its tolerance is that of M'M, whose eigenvalues are squares
    U, _, _ = scipy.sparse.linalg.svds(M, k, tol=TOLERANCE, v0=start(M))
    return np.einsum("ij,ij->j", U, M @ U), U


def start(M: Any) -> Any:
    return np.random.default_rng(0).standard_normal(M.shape[0])


# -------------------------------------------------------------------------------- similarities


def read_pairs(data_dir: Path, file: str) -> list[tuple[str, str, float]]:
    lines = (data_dir / "text" / "word_similarity" / file).read_text(encoding="utf-8").splitlines()
    fields = [line.split() for line in lines if line.strip()]
    return [(a.lower(), b.lower(), float(score)) for a, b, score in fields]


def correlations(vectors: Any, vocabulary: Any, pairs: dict[str, Any]) -> dict[str, float]:
    """Spearman's correlation for every list, over the pairs that are covered."""
    lengths = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)[:, None]
    found = {}
    for name, listed in pairs.items():
        a, b, scores = covered(vocabulary, listed)
        cosines = np.einsum("ij,ij->i", unit[a], unit[b])
        enough = len(scores) > 2
        found[name] = float(scipy.stats.spearmanr(cosines, scores)[0]) if enough else float("nan")
    return found


def covered(vocabulary: Any, listed: Any) -> tuple[Any, Any, Any]:
    a = vocabulary.ids(pair[0] for pair in listed)
    b = vocabulary.ids(pair[1] for pair in listed)
    both = (a >= 0) & (b >= 0)
    return a[both], b[both], np.array([pair[2] for pair in listed])[both]


# -------------------------------------------------------------------------------------- report


def report(
    rows: list[Row],
    pairs: dict[str, Any],
    vocabulary: Any,
    arguments: argparse.Namespace,
    ranks: int,
) -> None:
    coverage = {
        name: [len(covered(vocabulary, listed)[2]), len(listed)] for name, listed in pairs.items()
    }
    heads = [f"{name} ({found} of {all_})" for name, (found, all_) in coverage.items()]
    lines = [
        f"{vocabulary!r}, window {arguments.window} ({arguments.weighting}), shift "
        f"{arguments.shift:g}, smoothing {arguments.smoothing:g}, power {arguments.power:g}, "
        f"{ranks} rank(s)",
        "",
        f"| k | method | solve, s | largest residual | {' | '.join(heads)} |",
        "|---|---|---|---|" + "---|" * len(heads),
    ]
    for row in rows:
        seconds = "wrong" if row.seconds is None else f"{row.seconds:.1f}"
        scores = " | ".join(f"{value:.3f}" for value in row.spearman.values())
        lines.append(f"| {row.k} | {row.method} | {seconds} | {row.residual:.1e} | {scores} |")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "word_vectors.md").write_text(text, encoding="utf-8")
        record = {
            "settings": {key: str(value) for key, value in vars(arguments).items()},
            "ranks": ranks,
            "terms": len(vocabulary),
            "documents": vocabulary.n_documents,
            "coverage": coverage,
            "rows": [asdict(row) for row in rows],
        }
        (arguments.out / "word_vectors.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
