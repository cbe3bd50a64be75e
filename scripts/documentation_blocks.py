"""Code blocks of Markdown pages: their marks, their commands, and the output below them.

A block of shell or Python is run unless a comment in the line before it gives the reason why not::

    <!-- not run: needs a cluster -->

A block of text after the comment ``<!-- output -->`` is the output of the block before it;
``<!-- output: lines 2-5 -->`` and ``<!-- output: last 5 lines -->`` select a part of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks_of", "commands_of", "reason_of", "selected"]

_FENCE = re.compile(
    r"^(?:<!-- *(?P<mark>[^\n]*?) *-->\n\n?)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_JOB = re.compile(r"\bjobs/(\w+)\.toml")

#: Jobs of the repository whose data is generated or part of scikit-learn.
_BUNDLED = ("digits", "study_digits", "power_law")
#: Commands that are not run, and the reasons.
_REASONS = (
    (r"^\$[A-Z]", "continues a command that is not run"),
    (r"^make\b", "a target of the Makefile: .ci/run"),
    (r"^(source|sudo|conda|module|pip|git)\b|\bpip install\b", "changes the installation"),
    (r"\b(sbatch|srun)\b", "needs a cluster with SLURM"),
    (r"\bpytest\b", "tests: make test"),
    (r"\bbenchmarks/", "a measurement of minutes to hours: benchmarks/README.md"),
)


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes
    ----------
    language, text : str
    line : int
        Line of the page, from 1.
    mark : str
        Text of the comment before the block; empty if there is none.
    begin, end : int
        Positions of the text in the page.
    """

    language: str
    text: str
    line: int
    mark: str
    begin: int
    end: int

    @property
    def reason(self) -> str:
        """The reason why the block is not run; empty if it is."""
        return self.mark.removeprefix("not run:").strip() if self.mark.startswith("not run") else ""

    @property
    def is_output(self) -> bool:
        """Whether the block shows the output of the block before it."""
        return self.language == "text" and self.mark.startswith("output")


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in order.

    Raises
    ------
    ValueError
        A mark ``not run`` has no reason; the message names the page and the line.
    """
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        mark = match["mark"] or ""
        if re.fullmatch(r"not run:?", mark):
            raise ValueError(f"{page}:{line}: a block that is not run needs a reason")
        begin, end = match.span("text")
        blocks.append(Block(match["language"], match["text"], line, mark, begin, end))
    return blocks


def commands_of(text: str) -> list[str]:
    r"""Return the commands of a block of shell; a line that ends with ``\`` continues.

    Examples
    --------
    >>> commands_of("# a comment\nhpcembed run a.toml \\\n    --out b    # results\n\nls\n")
    ['hpcembed run a.toml --out b', 'ls']
    """
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [re.sub(r"(^|\s+)#\s.*$", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line]


def reason_of(command: str) -> str:
    """Return the reason why a command is not run; empty if it is.

    Examples
    --------
    >>> reason_of("sbatch jobs/slurm.sbatch job.toml")
    'needs a cluster with SLURM'
    >>> reason_of("hpcembed run jobs/mnist.toml"), reason_of("hpcembed run jobs/digits.toml")
    ('needs the data of jobs/mnist.toml', '')
    """
    for pattern, reason in _REASONS:
        if re.search(pattern, command):
            return reason
    for name in _JOB.findall(command):
        if name not in _BUNDLED:
            return f"needs the data of jobs/{name}.toml"
    return ""


def selected(output: str, mark: str) -> str:
    r"""Return the lines of an output that the mark of its block selects.

    Examples
    --------
    >>> selected("a\nb\nc\n", "output: lines 2-3")
    'b\nc\n'
    >>> selected("a\nb\nc\n", "output: last 1 lines")
    'c\n'
    """
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    part = re.fullmatch(r"output: lines (\d+)-(\d+)", mark)
    last = re.fullmatch(r"output: last (\d+) lines", mark)
    if part:
        lines = lines[int(part[1]) - 1 : int(part[2])]
    elif last:
        lines = lines[-int(last[1]) :]
    return "".join(f"{line}\n" for line in lines)
