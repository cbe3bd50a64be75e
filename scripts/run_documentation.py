"""Run the commands and the Python blocks of the README and of the documentation.

Each page has a temporary folder with the files of documentation_data.py. Blocks run in the order of
the page: commands of shell one by one; Python in one process for each page, with `rows` and
`labels` of digits. A block of TOML or Python that begins with a comment ``# NAME.toml`` or
``# NAME.py`` is the content of this file: it is written first, and not run. The table has one line
for each command, also for those that are not run, with the reason (documentation_blocks.py). The
exit status is 1 if a command fails.

``--update`` writes the output of each block into the page, below its comment ``<!-- output -->``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from documentation_blocks import Block, blocks_of, commands_of, reason_of, selected
from documentation_python import PythonBlocks

ROOT = Path(__file__).resolve().parents[1]
#: Names that Python blocks may use.
_NAMES = "import numpy as np\nrows, labels = np.load('rows.npy'), np.load('labels.npy')"
#: Seconds of one command.
LIMIT = 900
#: Exit statuses of ``hpcembed compress`` for answers that are no errors.
ANSWERS = {4: "ok: no network keeps the accuracy", 5: "ok: undecided"}
#: First line of a block that is the content of a file.
_FILE = re.compile(r"# ([\w-]+\.(?:toml|py))\n")
#: Folders of the repository that commands refer to.
LINKED = ("jobs", "scripts", ".venv")
#: Width of a command in the table.
WIDTH = 78


@dataclass
class Result:
    """A command that was run, or the reason why it was not."""

    command: str
    status: str
    seconds: float | None = None
    output: str = ""
    error: str = ""

    @property
    def failed(self) -> bool:
        """Whether the command was run and failed."""
        return self.seconds is not None and not self.status.startswith("ok")


@dataclass
class Page:
    """The state of one page while its blocks run.

    Attributes
    ----------
    folder : Path
        The working folder.
    """

    folder: Path
    _python: PythonBlocks | None = None

    def run(self, block: Block) -> Iterator[Result]:
        """Run a block of shell or Python and yield its results."""
        if block.language == "sh":
            for command in commands_of(block.text):
                reason = block.reason or reason_of(command)
                if reason:
                    yield Result(command, f"not run: {reason}")
                else:
                    yield self._execute(command, ["bash", "-c", command])
            return
        title = f"Python block in line {block.line}"
        if block.reason:
            yield Result(title, f"not run: {block.reason}")
            return
        begin = time.perf_counter()
        if self._python is None:
            self._python = PythonBlocks(self.folder, _environment(), LIMIT)
            self._python.run(_NAMES)
        output, error = self._python.run(block.text)
        seconds = time.perf_counter() - begin
        yield Result(title, "failed" if error else "ok", seconds, output, error)

    def close(self) -> None:
        """End the Python process."""
        if self._python is not None:
            self._python.close()

    def _execute(self, title: str, words: list[str]) -> Result:
        begin = time.perf_counter()
        try:
            done = subprocess.run(
                words,
                cwd=self.folder,
                env=_environment(),
                timeout=LIMIT,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired:
            return Result(title, f"stopped after {LIMIT} s", LIMIT)
        status = "ok" if done.returncode == 0 else f"exit status {done.returncode}"
        if title.startswith("hpcembed compress "):
            status = ANSWERS.get(done.returncode, status)
        seconds = time.perf_counter() - begin
        return Result(title, status, seconds, done.stdout, done.stderr)


def _environment() -> dict[str, str]:
    programs = str(Path(sys.executable).parent)
    return {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "MPLBACKEND": "Agg",
        # the examples use more ranks than some machines have cores
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        **os.environ,
        "VIRTUAL_ENV": str(Path(programs).parent),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "140",
    }


def run_page(page: Path, folder: Path, update: bool) -> list[Result]:
    """Run the blocks of a page in a folder, and return a result for each command."""
    blocks = blocks_of(page)
    for block in blocks:
        if name := _FILE.match(block.text):
            (folder / name[1]).write_text(block.text, encoding="utf-8")
    state, results, output = Page(folder), [], ""
    outputs: list[tuple[Block, str]] = []
    try:
        for block in blocks:
            if block.language in ("sh", "python") and not _FILE.match(block.text):
                found = list(state.run(block))
                output = "".join(result.output for result in found)
                results += found
            elif block.is_output and output:
                outputs.append((block, selected(output, block.mark)))
    finally:
        state.close()
    if update and not any(result.failed for result in results):
        text = page.read_text(encoding="utf-8")
        for block, new in reversed(outputs):
            text = text[: block.begin] + new + text[block.end :]
        page.write_text(text, encoding="utf-8")
    return results


def pages() -> list[Path]:
    """Return the pages of the repository that have blocks of shell or Python."""
    every = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "solvers" / "miramns" / "README.md",
        ROOT / "benchmarks" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    return [one for one in every if any(b.language in ("sh", "python") for b in blocks_of(one))]


def main() -> int:
    """Run the pages that the command line names, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, help="default: all pages")
    parser.add_argument("--update", action="store_true", help="write the output into the pages")
    parser.add_argument("--list", action="store_true", help="print the commands; run nothing")
    arguments = parser.parse_args()
    failed = 0
    for page in arguments.pages or pages():
        print(f"\n{page.resolve().relative_to(ROOT)}", flush=True)
        with tempfile.TemporaryDirectory(prefix="hpcembed-documentation-") as name:
            folder = Path(name)
            if arguments.list:
                results = _listed(page)
            else:
                words = [sys.executable, str(ROOT / "scripts" / "documentation_data.py"), name]
                subprocess.run(words, check=True, env=_environment())
                for linked in LINKED:
                    (folder / linked).symlink_to(ROOT / linked)
                results = run_page(page, folder, arguments.update)
        for result in results:
            seconds = "" if result.seconds is None else f"{result.seconds:.1f} s"
            print(f"  {result.command[:WIDTH]:{WIDTH}} {seconds:>8}  {result.status}")
            if result.failed:
                failed += 1
                print("\n".join(f"      {line}" for line in result.error.splitlines()[-8:]))
    print(f"\n{failed} failed")
    return int(failed > 0)


def _listed(page: Path) -> list[Result]:
    results = []
    for block in blocks_of(page):
        if block.language == "sh":
            for command in commands_of(block.text):
                reason = block.reason or reason_of(command)
                results.append(Result(command, f"not run: {reason}" if reason else "runs"))
        elif block.language == "python" and not _FILE.match(block.text):
            title = f"Python block in line {block.line}"
            results.append(Result(title, f"not run: {block.reason}" if block.reason else "runs"))
    return results


if __name__ == "__main__":
    sys.exit(main())
