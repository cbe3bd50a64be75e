"""Read documents without a job: a path in, this rank's texts and labels out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mpi4py import MPI

from hpcembed.data.settings import DataSettings
from hpcembed.data.text.documents import Documents
from hpcembed.data.text.formats import open_text, text_format
from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.memory import available_per_rank, check_fits
from hpcembed.runtime.settings import build

__all__ = ["read_text"]


def read_text(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    comm: MPI.Comm,
    *,
    format: str = "auto",
    labelled: bool = True,
    text_column: str = "",
    label_column: str = "",
    delimiter: str = "auto",
    headers: str = "keep",
    quoting: str = "keep",
    encoding: str = "utf-8",
    encoding_errors: str = "replace",
) -> Documents:
    r"""Read documents; each rank keeps a consecutive share.

    Collective.

    Parameters
    ----------
    paths : path-like, or a sequence of them
        Folders, tar archives, or files, all of one format; their documents are joined.
    comm : MPI.Comm
    format : {"auto", "text_folder", "text_tar", "text_lines", "text_csv"}
        auto: by the first path: a folder, a ``.tar`` or ``.tgz`` archive, a CSV file if
        `text_column` is given, else a document on every line.
    labelled : bool
        Whether documents have labels: the folder of the document, the first word of the line, or
        the column `label_column`.
    text_column, label_column, delimiter, headers, quoting, encoding, encoding_errors : str
        As the keys of the same name in the ``[data]`` section of a job.

    Returns
    -------
    Documents

    Raises
    ------
    InputError, ConfigError, MemoryLimitError
        On all ranks.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "reviews.txt")
    ...     _ = path.write_text("good a fine story\nbad a dull story\n")
    ...     documents = read_text(path, MPI.COMM_SELF)
    >>> documents.texts, documents.labels.values
    (['a fine story', 'a dull story'], ('good', 'bad'))
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files = tuple(Path(path) for path in given)
    with agreement(comm):
        config = build(
            DataSettings,
            {
                "text_column": text_column, "label_column": label_column, "delimiter": delimiter,
                "headers": headers, "quoting": quoting,
                "encoding": encoding, "encoding_errors": encoding_errors,
            },
            "read_text",
        )  # fmt: skip
        if not files:
            raise ConfigError("no paths: name a folder, an archive or a file")
        if format == "auto":
            format = text_format(files[0], has_columns=bool(text_column))
        source = open_text(format, files, config, labelled=labelled)
    needed = source.measure(comm)
    check_fits(needed, available_per_rank(comm), f"reading {source.name}", "use more ranks")
    return source.documents(comm)
