"""Every command of the list of published numbers exists: scripts, jobs, options, keys, tests."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from pathlib import Path

import pytest

from hpcembed import cli
from hpcembed.bench import command_line as bench_pca
from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.study.settings import load_study
from hpcembed.runtime.errors import HpcembedError

ROOT = Path(__file__).parents[1]
LIST = ROOT / "docs" / "numbers.md"
#: Pages without numbers that were measured.
NO_MEASUREMENTS = {
    "architecture.md", "changelog.md", "contributing.md", "index.md",
    "installation_cluster.md", "numbers.md",
    "troubleshooting.md",
}  # fmt: skip
STARTS = (
    "python ",
    "hpcembed ",
    "benchmarks/",
    "jobs/",
    "make ",
    "mpiexec ",
    "pytest ",
    "OPENBLAS",
)


def commands():
    found = re.findall(r"`([^`\n]+)`", LIST.read_text("utf-8"))
    return [one for one in found if one.startswith(STARTS) and " " in one]


def words_of(command):
    """Divide a command into words, without variables of the environment and the launcher."""
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    return words[3:] if words[0] == "mpiexec" else words


def constants(script):
    """Return all strings that a script contains: among them its options and their choices."""
    tree = ast.parse(script.read_text("utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def check_script(words):
    script = ROOT / words[0]
    assert script.is_file(), f"no script {words[0]}"
    known = constants(script)
    for option in (word for word in words[1:] if word.startswith("--")):
        assert option in known, f"{words[0]} has no option {option}"
    for word in words[1:2]:
        if re.fullmatch("[a-z0-9]+", word):  # a part of the script
            assert word in known, f"{words[0]} has no part {word}"


def check_hpcembed(words):
    if words[:2] == ["bench", "pca"]:
        bench_pca._parser().parse_args(words[2:])
        return
    arguments = cli._parse(words, rank=0)
    job = next((ROOT / word for word in words if re.fullmatch(r"jobs/\w+\.toml", word)), None)
    assert job is not None, "no job"
    assert job.is_file(), f"no job {job.name}"
    load = load_study if words[0] == "study" else load_job
    load(job, getattr(arguments, "overrides", []))


def check(command):
    """Raise an error that names the part of a command that does not exist."""
    words = words_of(command)
    if words[0] == "python":
        check_script(words[1:])
    elif words[0] == "hpcembed":
        check_hpcembed(words[1:])
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets, f"no target {words[1]}"
    elif words[0] == "jobs/run_local.sh":
        check_hpcembed(["run", *words[2:]])
    else:
        path = words[1] if words[0] == "pytest" else words[0]
        assert (ROOT / path).is_file(), f"no file {path}"


@pytest.fixture(autouse=True)
def raise_errors_of_parsers(monkeypatch):
    def fail(self, message):
        raise ValueError(message)

    monkeypatch.setattr(argparse.ArgumentParser, "error", fail)


@pytest.mark.parametrize("command", commands())
def test_command_exists(command):
    check(command)


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("python benchmarks/nothing.py --data-dir DATA", "no script benchmarks/nothing.py"),
        ("python benchmarks/small_data.py --first 100", "no option --first"),
        ("python benchmarks/networks.py resnet21 --data-dir DATA", "no part resnet21"),
        ("hpcembed study jobs/nothing.toml", "no job nothing.toml"),
        ("hpcembed study jobs/study_mnist.toml --sets a=b", "unrecognized arguments"),
        ("hpcembed study jobs/study_mnist.toml --set study.recipes=default", "study.recipes"),
        ("jobs/run_local.sh 2 jobs/mnist.toml --folder DATA", "unrecognized arguments"),
        ("hpcembed bench pca --datas mnist", "unrecognized arguments"),
        ("make nothing", "no target nothing"),
        ("pytest tests/nothing.py", "no file tests/nothing.py"),
        ("mpiexec -n 2 python benchmarks/nothing.py", "no script"),
    ],
)
def test_a_missing_part_is_named(command, part):
    with pytest.raises((AssertionError, ValueError, HpcembedError), match=part):
        check(command)


def test_every_page_with_measurements_is_in_the_list():
    pages = [ROOT / "README.md", ROOT / "solvers" / "miramns" / "README.md"]
    pages += [page for page in (ROOT / "docs").glob("*.md") if page.name not in NO_MEASUREMENTS]
    linked = {
        (LIST.parent / target).resolve()
        for target in re.findall(r"^\|.*", LIST.read_text("utf-8"), re.MULTILINE)
        for target in re.findall(r"\]\(([^)#]+)", target)
    }
    assert {page for page in pages if page.resolve() not in linked} == set()


def test_every_benchmark_that_makes_a_page_is_in_the_list():
    listed = {Path(words_of(one)[1]).name for one in commands() if "python benchmarks/" in one}
    table = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| `") and ".py" in line]
    making = {re.search(r"`(\w+\.py)`", row)[1] for row in rows if "docs/" in row.split("|")[2]}
    assert making - listed == set()


def test_the_script_runs_the_commands_of_all_pages(extension_pages):
    named = {page.resolve().relative_to(ROOT).as_posix() for page in extension_pages}
    assert {"README.md", "solvers/miramns/README.md", "benchmarks/README.md"} <= named
    for page in (ROOT / "docs").rglob("*.md"):
        if re.search(r"^```(sh|python)$", page.read_text("utf-8"), re.MULTILINE):
            assert page.relative_to(ROOT).as_posix() in named


@pytest.fixture
def extension_pages(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import run_documentation

    return run_documentation.pages()
