"""The formats of documents: one table of names and readers, and the choice by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpcembed.data.settings import DataSettings
from hpcembed.data.text.cleaning import TextRules
from hpcembed.data.text.documents import DocumentReader, DocumentSource
from hpcembed.data.text.folders_and_archives import FolderDocuments, TarDocuments
from hpcembed.data.text.lines_and_csv import CsvDocuments, LineDocuments
from hpcembed.runtime.errors import ConfigError

__all__ = ["TEXT_FORMATS", "open_text", "rules_of", "text_format"]

_Opener = Callable[[Sequence[Path], DataSettings, bool | None], DocumentReader]


def _open_csv(paths: Sequence[Path], config: DataSettings, labelled: bool | None) -> DocumentReader:
    label_column = config.label_column if labelled else None
    return CsvDocuments(paths, config.text_column, label_column, config.delimiter)


#: Values of data.format whose rows are documents, and how their files are opened.
TEXT_FORMATS: Mapping[str, _Opener] = {
    "text_folder": lambda paths, _, labelled: FolderDocuments(paths, labelled=labelled),
    "text_tar": lambda paths, _, labelled: TarDocuments(paths, labelled=labelled),
    "text_lines": lambda paths, _, labelled: LineDocuments(paths, labelled=bool(labelled)),
    "text_csv": _open_csv,
}


def text_format(path: Path, *, has_columns: bool) -> str:
    """Return the format of a path: a folder, a tar archive, or a file of records or lines.

    Not collective.

    Parameters
    ----------
    has_columns : bool
        Whether a file that is not an archive has named columns.

    Examples
    --------
    >>> text_format(Path("reviews.tar.gz"), has_columns=False)
    'text_tar'
    >>> text_format(Path("reviews.csv"), has_columns=True)
    'text_csv'
    """
    if path.is_dir():
        return "text_folder"
    if path.name.lower().removesuffix(".gz").endswith((".tar", ".tgz")):
        return "text_tar"
    return "text_csv" if has_columns else "text_lines"


def rules_of(config: DataSettings) -> TextRules:
    """Return the rules for decoding and cleaning in the settings. Not collective."""
    return TextRules(config.headers, config.quoting, config.encoding, config.encoding_errors)


def open_text(
    format: str, paths: Sequence[Path], config: DataSettings, *, labelled: bool | None = True
) -> DocumentSource:
    """Open documents: read and check headers, but no text. Not collective.

    Parameters
    ----------
    format : str
        A key of :data:`TEXT_FORMATS`.
    labelled : bool or None
        Whether documents have labels. None: those in folders may have one, lines and records have
        none.

    Raises
    ------
    InputError, ConfigError
        A path that does not exist or is not of the format, an unknown format or encoding.
    """
    rules = rules_of(config)
    if format not in TEXT_FORMATS:
        raise ConfigError(f"format {format!r}: documents are one of {', '.join(TEXT_FORMATS)}")
    if format in ("text_lines", "text_csv"):
        rules.check_ascii_compatible()
    reader = TEXT_FORMATS[format](paths, config, labelled)
    return DocumentSource(reader, rules, ", ".join(map(str, paths)))
