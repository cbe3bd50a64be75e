"""``hpcembed init``: write a commented job, or that of a study, for a data file or folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
from mpi4py import MPI

from hpcembed.data.reading import Description, describe_dataset
from hpcembed.jobs.compress.search_components import MOST_COMPONENTS
from hpcembed.jobs.configuration import JobConfig, check_job, rename_files
from hpcembed.jobs.init.inspection import Finding, inspect_data
from hpcembed.jobs.study.settings import StudyConfig, check_study
from hpcembed.runtime.errors import OutputExistsError
from hpcembed.runtime.output.files import write_whole
from hpcembed.runtime.settings import build
from hpcembed.runtime.wording import counted

__all__ = ["init_job"]

#: Formats whose values are bytes of pixels.
_PIXELS = ("idx", "cifar10", "images")


def init_job(
    data: Path,
    label_column: str = "",
    out: Path | None = None,
    labels: Path | None = None,
    *,
    study: bool = False,
) -> str:
    r"""Write a job, or the job of a study, for a data file or folder.

    Parameters
    ----------
    data : Path
    label_column : str
        Column of the class of a CSV file; found by its name if it is empty.
    out : Path, optional
        The job file; by default the name of the data and ``.toml``, after ``study_`` for a study,
        in the working folder.
    labels : Path, optional
        File of labels, for formats without labels.
    study : bool
        Write a job for ``hpcembed study``.

    Returns
    -------
    str
        Text for the user: the file, and the commands to run next.

    Raises
    ------
    OutputExistsError
        The job file exists.
    InputError, ConfigError
        The data cannot be read, or their format is unknown.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data, job = Path(folder, "fruit.csv"), Path(folder, "fruit.toml")
    ...     _ = data.write_text("mass,width,kind\n1,2,fig\n3,4,pear\n")
    ...     print(init_job(data, "kind", job).splitlines()[1])
    csv: 2 training and 0 test rows of 2 features
    """
    name = "".join(one for one in data.resolve().name.split(".")[0] if one.isprintable()) or "data"
    out = out or Path(f"{'study_' if study else ''}{name}.toml")
    if out.exists():
        raise OutputExistsError(f"{out}: exists; choose another file with --out or remove it")
    found = inspect_data(data, label_column, labels)
    folder = out.resolve().parent
    settings: dict[str, str | list[str]] = {
        "name": name,
        "format": found.keys["format"],
        "train": [_relative(data, folder)],
    }
    if found.labels is not None:
        settings["train_labels"] = _relative(found.labels, folder)
    settings |= {key: value for key, value in found.keys.items() if key != "format"}
    draft = build(JobConfig, {"data": settings}, str(out))
    # The folder of the job may not exist yet.
    read = rename_files(draft.data, lambda one: one and os.path.normpath(folder / one))
    about = describe_dataset(read, folder, MPI.COMM_SELF)
    text = _job_text(settings, found, about, study=study)
    # The text is what is read later: it must be a valid job.
    if study:
        check_study(build(StudyConfig, msgspec.toml.decode(text), str(out)), str(out))
    else:
        check_job(build(JobConfig, msgspec.toml.decode(text), str(out)), str(out))
    write_whole(out, text.encode("utf-8"))
    return "\n".join(
        [
            f"job written to {out}: check the keys of [data]",
            _facts(about),
            "run next:",
            *_next_commands(out, study=study),
        ]
    )


def _next_commands(out: Path, *, study: bool) -> list[str]:
    if study:
        return [f"  hpcembed study {out}      the smallest number of components of each network"]
    return [
        f"  hpcembed run {out} --dry-run      memory and engine; runs nothing",
        f"  hpcembed run {out}                networks on the embedding and on all features",
        f"  hpcembed compress {out} --max-loss 0.5 --max-components {MOST_COMPONENTS}"
        "      the smallest input and network",
    ]


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder)


def _facts(about: Description) -> str:
    n_train, n_test = about.n_rows
    if n_train is None or n_test is None:
        rows = "an unknown number of rows"
    else:
        rows = f"{n_train:,} training and {counted(n_test, 'test row')}"
        rows = f"about {rows}" if about.is_estimate else rows
    if about.n_features is not None and not about.is_sparse:
        rows += f" of {counted(about.n_features, 'feature')}"
    return f"{about.format}: {rows}"


def _job_text(
    settings: dict[str, str | list[str]], found: Finding, about: Description, *, study: bool
) -> str:
    """Return the job as TOML with comments."""
    is_sparse = found.is_text or about.is_sparse
    lines = [
        f"# {_facts(about)}. Absent keys have their defaults.",
        "# `hpcembed run FILE --set section.key=value` overrides a key for one run.",
        "",
        "[data]",
    ]
    for key, value in settings.items():
        note = found.notes.get(key)
        lines += [f"# {_one_line(note)}"] if note else []
        lines.append(f"{key} = {_toml(value)}")
    lines += ["# rows of a test file of its own: test = [...]", "test_fraction = 0.2"]
    if about.format in _PIXELS:
        lines += ['scaling = "divide"          # pixels 0..255 become 0..1', "divisor = 255.0"]
    elif not is_sparse:
        lines.append('scaling = "standard"        # columns of mean 0 and standard deviation 1')
    if found.is_text:
        lines.append("min_df = 2                  # terms of at least 2 training documents")
    method = ['method = "svd"              # for counts and weights of terms; else "pca"']
    method = method if is_sparse else []
    if study:
        return "\n".join([*lines, *_study_lines(method, about, baseline=not is_sparse)])
    lines += [
        "",
        "[embedding]",
        *method,
        "# number of components; `hpcembed compress` tries no more, unless it has --max-components",
        f"n_components = {_n_components(about)}",
        "",
        "[classifier]",
        "# large (512-512), medium (256-256), low (64-64), very_low (32-32), or widths",
        'hidden = ["low"]',
        "# train the same network on all features as well",
        f"baseline = {'false' if is_sparse else 'true'}",
        "",
    ]
    return "\n".join(lines)


def _study_lines(method: list[str], about: Description, *, baseline: bool) -> list[str]:
    """Return the sections of a study."""
    most = _most_components(about, 32)
    sizes = [size for size in (2, 4, 8, 16) if size < most] + [most]
    return [
        *(["", "[embedding]", *method] if method else []),
        "",
        "[study]",
        "# numbers of components; the largest one takes the time of the eigenproblem",
        f"dimensions = {sizes}",
        "# large (512-512), medium (256-256), low (64-64), very_low (32-32), or widths",
        'networks = ["low", "very_low"]',
        "# trainings of each network; their differences give the intervals",
        "seeds = 5",
        "# points of accuracy, or of R2 (0.01 each), that a network without loss may lose",
        "margin = 1.0",
        '# compare other projections as well: rivals = ["lda", "lpp", "dct", "autoencoder"]',
        "# train the same networks on all features as well",
        f"baseline = {'true' if baseline else 'false'}",
        "",
    ]


def _n_components(about: Description) -> int:
    sizes = [20, _most_components(about, 20)]
    if about.n_features is not None and not about.is_sparse:
        sizes.append(about.n_features // 2)
    return max(1, min(sizes))


def _most_components(about: Description, wanted: int) -> int:
    """Return a number of components that the data are known to have, at most `wanted`."""
    sizes = [wanted]
    if about.n_features is not None and not about.is_sparse:
        sizes.append(about.n_features)
    if about.n_rows[0] is not None:
        sizes.append(about.n_rows[0])
    return max(1, min(sizes))


def _toml(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _one_line(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
