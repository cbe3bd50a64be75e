"""Results of calls from Python: short text, tables in notebooks, files on request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcembed.jobs.compact.temporary_folder import TemporaryFolder
from hpcembed.jobs.report.rendering import markdown_html
from hpcembed.runtime.errors import InputError
from hpcembed.runtime.output.whole_folder import whole_folder
from hpcembed.runtime.wording import counted

__all__ = ["CompressReport", "StudyResult"]


class CompressReport:
    """Result of a search for the smallest network and dimension.

    Attributes
    ----------
    text : str
        Diagnostics of the dimension, the steps of the search, and the answer, in Markdown, as in
        ``compress.md``.
    content : dict
        The same as numbers, as in ``compress.json``: request, dimensions, baseline, steps, results
        of the seeds, difference on test rows. Accuracies lie between 0 and 1; R2 is at most 1.
    """

    def __init__(self, text: str, content: Mapping[str, Any]) -> None:
        self.text = text
        self.content = dict(content)

    @property
    def verdict(self) -> str:
        """Whether the model keeps the accuracy: keeps, loses or undecided."""
        return str(self.content["answer"]["verdict"])

    @property
    def task(self) -> str:
        """Whether the model is a classification or a regression."""
        return str(self.content["task"])

    @property
    def hidden(self) -> tuple[int, ...]:
        """Hidden layers of the network."""
        return tuple(self.content["answer"]["hidden"] or ())

    @property
    def n_components(self) -> int:
        """Number of components."""
        return int(self.content["answer"]["n_inputs"])

    @property
    def answer(self) -> str:
        """The last paragraphs of the text: the network, its size and its accuracy."""
        return self.text.rpartition("|\n")[2].strip()

    def __repr__(self) -> str:
        layers = "-".join(map(str, self.hidden)) or "linear"
        components = counted(self.n_components, "component")
        return f"<CompressReport: {self.verdict}, network {layers} on {components}>"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return markdown_html(self.text)


class StudyResult:
    """Result of a study: accuracy or R2 of every network at every dimension.

    Attributes
    ----------
    text : str
        Tables and sentences in Markdown, as in ``study.md``.
    content : dict
        The same as numbers, as in ``study.json``; accuracies lie between 0 and 1, R2 is at
        most 1.
    folder : Path
        Files of the study, with ``report.html``; on rank 0 only. A temporary folder is removed with
        this object: see :meth:`save`.
    """

    def __init__(self, folder: Path, temporary: TemporaryFolder | None) -> None:
        self.folder = folder
        self._temporary = temporary
        self.text = (folder / "study.md").read_text(encoding="utf-8")
        self.content = json.loads((folder / "study.json").read_text(encoding="utf-8"))

    @property
    def headline(self) -> list[str]:
        """The chosen model in sentences: choice, test scores, parameters; empty without one."""
        return list((self.content["compression"] or {"headline": []})["headline"])

    @property
    def points(self) -> list[dict[str, Any]]:
        """Each network on each input over all seeds: one mapping a row, for pandas."""
        return list(self.content["points"])

    @property
    def rivals(self) -> list[dict[str, Any]]:
        """Each rival projection and the embedding at each k, for pandas; empty without rivals."""
        return list((self.content["rivals"] or {"points": []})["points"])

    def save(self, folder: str | Path) -> Path:
        """Copy the files of the study into a new folder.

        Raises
        ------
        OutputExistsError
            The folder is not empty.
        OutputError
            The folder cannot be written.
        """
        with whole_folder(Path(folder)) as partial:
            shutil.copytree(self.folder, partial, dirs_exist_ok=True)
        return Path(folder)

    def __repr__(self) -> str:
        return f"<StudyResult: {len(self.points)} networks on their inputs, in {self.folder}>"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return markdown_html(self.text)


def read_report(folder: Path) -> CompressReport:
    """Read the report of a search from its folder.

    Raises
    ------
    InputError
        The folder has no report.
    """
    try:
        text = (folder / "compress.md").read_text(encoding="utf-8")
        content = json.loads((folder / "compress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: contains no report of a search ({error})") from error
    return CompressReport(text, content)
