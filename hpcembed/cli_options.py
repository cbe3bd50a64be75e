"""Options of the commands of :mod:`hpcembed.cli`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hpcembed.runtime.stopping.time_limit import parse_duration

__all__ = [
    "add_checkpoint_options",
    "add_complete_options",
    "add_compress_model_options",
    "add_compress_options",
    "add_doctor_options",
    "add_init_options",
    "add_overrides",
    "add_predict_options",
    "add_report_options",
    "add_study_options",
    "checkpoint_interval",
    "folder_options",
]


def folder_options(verbose: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Return the options of every command that reads data and writes a folder."""
    folders = argparse.ArgumentParser(add_help=False, parents=[verbose])
    add_overrides(folders, "SECTION.KEY=VALUE", "override one key of the file; may be repeated")
    folders.add_argument(
        "--data-dir",
        type=Path,
        help="folder that contains the data files (default: the folder of the TOML file)",
    )
    folders.add_argument("--out", type=Path, help="folder for the results (default: in runs/)")
    folders.add_argument(
        "--reproducible",
        action="append_const",
        const="resources.reproducible=true",
        dest="overrides",
        help="results with the same bits on any number of ranks; slower",
    )
    folders.add_argument(
        "--petsc", default="", metavar='"OPTIONS"', help="options for PETSc and SLEPc, in quotes"
    )
    return folders


def add_overrides(command: argparse.ArgumentParser, form: str, text: str) -> None:
    """Add --set."""
    command.add_argument(
        "--set", action="append", default=[], metavar=form, dest="overrides", help=text
    )


def add_checkpoint_options(
    command: argparse.ArgumentParser, *, verifies_data: bool = False
) -> None:
    """Add the options of commands that store their unfinished work."""
    command.add_argument(
        "--time-limit",
        default="",
        metavar="DURATION",
        help="stop before this time has passed, with all work stored: 90m, 1:30:00, or none "
        "(default: the end of the SLURM job)",
    )
    command.add_argument(
        "--checkpoint-every",
        default="",
        metavar="DURATION",
        help="time between checkpoints; 0s: at each opportunity (default: at least 60 s, and at "
        "most 2 %% of the time for writing)",
    )
    if verifies_data:
        command.add_argument(
            "--verify-data",
            action="store_true",
            help="compare all bytes of the data files when the run continues (default: sizes, "
            "times, first and last bytes)",
        )


def checkpoint_interval(text: str) -> float | None:
    """Return the seconds of ``--checkpoint-every``; None if it is not given.

    Raises
    ------
    ConfigError
        It is no duration.

    Examples
    --------
    >>> checkpoint_interval("2m"), checkpoint_interval("0s"), checkpoint_interval("")
    (120.0, 0.0, None)
    """
    if not text:
        return None
    return parse_duration(text, "--checkpoint-every", least=0.0)


def add_study_options(study: argparse.ArgumentParser) -> None:
    """Add the options of ``hpcembed study``."""
    study.add_argument(
        "job",
        type=Path,
        metavar="STUDY.toml",
        help="job with a section [study]; hpcembed init --study writes one",
    )
    alternatives = study.add_mutually_exclusive_group()
    alternatives.add_argument(
        "--report-only",
        action="store_true",
        help="write the tables and the report of the finished trials in --out; train nothing",
    )
    alternatives.add_argument(
        "--dry-run",
        action="store_true",
        help="read headers only; print ranks, threads, number of trainings, memory and the engine "
        "of the operator",
    )
    study.add_argument(
        "--intrinsic",
        action="append_const",
        const="study.intrinsic=true",
        dest="overrides",
        help="find the least dimension of a random subspace of the parameters in which the chosen "
        "network reaches 90 %% of its own score (study.intrinsic, study.intrinsic_share)",
    )


def add_compress_options(compress: argparse.ArgumentParser) -> None:
    """Add the options of ``hpcembed compress``."""
    compress.add_argument(
        "source", type=Path, metavar="JOB.toml|DATA", help="job, or data file or folder"
    )
    compress.add_argument(
        "--max-loss",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="largest loss of accuracy, or of R2 for a regression, in points of 0.01 "
        "(default: 0.5)",
    )
    compress.add_argument(
        "--seeds", type=int, default=5, help="number of seeds of a comparison at first (default: 5)"
    )
    compress.add_argument(
        "--max-seeds",
        type=int,
        default=0,
        metavar="N",
        help="seeds are added up to this number while a comparison is undecided (default: 30)",
    )
    compress.add_argument(
        "--max-components",
        type=int,
        default=0,
        metavar="K",
        help="largest k (default: that of the job, else by the spectrum, at most 256)",
    )
    compress.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        help="confidence level of the intervals (default: 0.95)",
    )
    compress.add_argument(
        "--label-column", default="", help="column or array of the labels in a data file"
    )
    compress.add_argument(
        "--labels",
        type=Path,
        help="file with the labels of a data file that has none, such as rows.npy",
    )
    compress.add_argument(
        "--test",
        type=Path,
        metavar="FILE",
        help="test rows of a data file, with the same columns (default: a fifth of the rows)",
    )
    compress.add_argument(
        "--test-labels", type=Path, metavar="FILE", help="file with the labels of the test rows"
    )
    compress.add_argument(
        "--task",
        default="auto",
        choices=("auto", "classification", "regression"),
        help="meaning of the labels of a data file (default: found from the labels)",
    )
    compress.add_argument(
        "--scaling",
        default="",
        choices=("none", "divide", "minmax", "standard"),
        help="scaling of a data file (default: standard, none for documents)",
    )


def add_compress_model_options(command: argparse.ArgumentParser) -> None:
    """Add the options of ``hpcembed compress-model``."""
    command.add_argument("model", type=Path, metavar="MODEL.onnx", help="trained model")
    rows = "ROWS.npy"
    command.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar=rows,
        help="calibration rows: .npy, .npz with one array for each input, IDX, or HDF5",
    )
    command.add_argument("--labels", type=Path, help="class numbers of the rows")
    command.add_argument(
        "--validation", type=Path, metavar=rows, help="default: a quarter of the rows, held out"
    )
    command.add_argument("--validation-labels", type=Path, metavar="LABELS.npy")
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument(
        "--max-loss",
        type=float,
        metavar="LOSS",
        help="in points of accuracy, nats of divergence, or units of 1 - cosine",
    )
    size.add_argument(
        "--budget", default="", metavar="MEASURE=SHARE", help="parameters=0.5 or macs=0.5"
    )
    command.add_argument(
        "--metric",
        default="",
        choices=("accuracy", "divergence", "cosine"),
        help="default: accuracy with labels, divergence without",
    )
    command.add_argument(
        "--measure",
        default="parameters",
        choices=("parameters", "macs"),
        help="cost that --max-loss makes small (default: parameters)",
    )
    command.add_argument(
        "--out", type=Path, help="file .onnx or folder (default: MODEL-compressed.onnx)"
    )
    command.add_argument("--side", default="auto", choices=("auto", "output", "input"))
    command.add_argument(
        "--layers", default="linear,conv", help="linear, conv, or patterns of names with *"
    )
    command.add_argument("--batch-size", type=int, default=64)
    command.add_argument("--seed", type=int, default=0, help="of the rows that are held out")
    command.add_argument(
        "--petsc", default="", metavar='"OPTIONS"', help="options for PETSc and SLEPc, in quotes"
    )


def add_complete_options(command: argparse.ArgumentParser) -> None:
    """Add the options of ``hpcembed complete``."""
    command.add_argument(
        "source",
        type=Path,
        metavar="RATINGS",
        help="lines of user, item and rating, separated by , ; | :: tabs or blanks",
    )
    command.add_argument(
        "--test", type=Path, help="test entries (default: a tenth, drawn at random)"
    )
    default = "(default: chosen on validation entries)"
    command.add_argument("--rank", type=int, help=f"rank of the table {default}")
    command.add_argument("--ridge", type=float, help=f"penalty of the factors {default}")
    command.add_argument("--seed", type=int, default=0, help="of the entries that are held out")
    command.add_argument("--out", type=Path, help="folder for hpcembed.load_completion")
    command.add_argument(
        "--petsc", default="", metavar='"OPTIONS"', help="options for PETSc and SLEPc, in quotes"
    )


def add_predict_options(predict: argparse.ArgumentParser) -> None:
    """Add the options of ``hpcembed predict``."""
    predict.add_argument("model", type=Path, metavar="MODEL", help="folder of a model, or of a run")
    predict.add_argument("file", type=Path, metavar="FILE", help="rows: a data file or folder")
    predict.add_argument(
        "--labels", type=Path, help="file with the labels of the rows; prints the accuracy or R2"
    )
    add_overrides(predict, "data.KEY=VALUE", "override a key of [data] for FILE; may be repeated")
    predict.add_argument("--out", type=Path, help="CSV file (default: standard output)")


def add_report_options(command: argparse.ArgumentParser) -> None:
    """Add the options of ``hpcembed report``."""
    command.add_argument(
        "run", type=Path, metavar="RUN_FOLDER", help="output folder of hpcembed run"
    )
    command.add_argument(
        "--map",
        action="store_true",
        required=True,
        help="draw rows at the positions that UMAP finds from their coordinates, coloured by "
        "class; reads the data again, and needs umap-learn",
    )
    command.add_argument(
        "--rows",
        type=int,
        default=10_000,
        metavar="N",
        help="training rows in the map, at most (default: 10,000)",
    )
    command.add_argument("--seed", type=int, default=0, help="of UMAP (default: 0)")


def add_init_options(command: argparse.ArgumentParser) -> None:
    """Add the options of ``hpcembed init``."""
    command.add_argument("data", type=Path, metavar="DATA", help="data file or folder")
    command.add_argument(
        "--label-column",
        default="",
        metavar="NAME",
        help="column of the class or target, for CSV, Parquet and Arrow (default: found by its "
        "name, else the last one)",
    )
    command.add_argument(
        "--labels",
        type=Path,
        help="file of labels: for NPY, IDX, Matrix Market, and images in one folder (default: a "
        "file beside DATA)",
    )
    command.add_argument(
        "--study",
        action="store_true",
        help="write a job for hpcembed study: several numbers of components, networks and seeds",
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="JOB.toml",
        help="default: DATA.toml here, with --study study_DATA.toml",
    )


def add_doctor_options(command: argparse.ArgumentParser) -> None:
    """Add the options of ``hpcembed doctor``."""
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        help="folder of future results, whose file system is checked (default: runs)",
    )
