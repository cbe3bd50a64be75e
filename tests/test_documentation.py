"""The documentation names files, modules, options and settings that exist."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import msgspec
import pytest

from hpcembed import cli
from hpcembed.jobs.configuration import JobConfig, load_job
from hpcembed.jobs.study.settings import StudyConfig, load_study

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/*/*.md"),
        ROOT / "benchmarks" / "README.md",
        ROOT / "solvers" / "miramns" / "README.md",
    ]
)
#: CHANGELOG.md lists names that no longer exist.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in (
        "hpcembed",
        "solvers",
        "tests",
        "benchmarks",
        "scripts",
        "jobs",
        "docs",
        "packaging",
        ".ci",
    )
    for path in (ROOT / folder).rglob("*")
    if "__pycache__" not in path.parts
] + [path.name for path in ROOT.iterdir() if path.is_file()]

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: A source file, perhaps below a folder.
FILE = re.compile(r"[\w./-]+\.(?:py|sh|sbatch|j2)")
#: A path that begins with a folder of the source tree.
PLACE = re.compile(r"(?<![\w/.-])(?:hpcembed|solvers|tests|benchmarks|scripts|jobs|docs)/[\w./*-]*")
ENDINGS = ("csv", "def", "json", "md", "py", "safetensors", "sh", "toml")
NAME = re.compile(r"(?<![\w/.-])(?:hpcembed|miramns)(?:\.[A-Za-z_]\w*)+")


def of(pages):
    names = [page.relative_to(ROOT).as_posix() for page in pages]
    return pytest.mark.parametrize("page", pages, ids=names)


def blocks(page, language):
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def inline_code(page):
    return CODE.findall(BLOCK.sub("", page.read_text("utf-8")))


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exists(path):
    return any(ROOT.glob(path.rstrip("/"))) if "*" in path else (ROOT / path).exists()


def resolve(name):
    """Import as much of a dotted name as is a module; the rest are attributes."""
    parts = name.split(".")
    found, module = None, ""
    for position, part in enumerate(parts):
        module = ".".join(parts[: position + 1])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            found = getattr(found, part)
    return found


@of(PAGES)
def test_links_lead_to_files_and_headings(page):
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@of(CURRENT)
def test_paths_exist(page):
    for place in PLACE.findall(page.read_text("utf-8")):
        assert exists(place.rstrip(".")), place
    for code in inline_code(page):
        # a file may be named by the end of its path
        if FILE.fullmatch(code):
            assert any(f"/{source}".endswith(f"/{code}") for source in SOURCES), code


@of(CURRENT)
def test_names_of_modules_and_functions_exist(page):
    for name in NAME.findall(page.read_text("utf-8")):
        if name.rpartition(".")[2] not in ENDINGS:
            assert resolve(name) is not None, name


@of(CURRENT)
def test_settings_are_valid(page, tmp_path):
    for number, text in enumerate(blocks(page, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, encoding="utf-8")
        load = load_study if "[study]" in text else load_job
        assert load(path) is not None


@of(CURRENT)
def test_sections_and_keys_exist(page):
    sections = {}
    for config in (JobConfig, StudyConfig):
        for section in msgspec.structs.fields(config):
            sections.setdefault(section.name, set()).update(section.type.__struct_fields__)
    for code in inline_code(page):
        bracketed = re.fullmatch(r"\[(\w+)\]", code)
        assert not bracketed or bracketed[1] in sections, code
        key = re.fullmatch(r"(\w+)\.(\w+)(?: =.*)?", code)
        if key and key[1] in sections and key[2] not in ENDINGS:
            assert key[2] in sections[key[1]], code


@of(CURRENT)
def test_commands_are_accepted(page, monkeypatch):
    def fail(self, message):
        raise ValueError(message)

    monkeypatch.setattr(argparse.ArgumentParser, "error", fail)
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for text in blocks(page, "sh") for line in text.splitlines()]
    for line in [*lines, *inline_code(page)]:
        if not line.startswith(("hpcembed ", "make ", "jobs/run_local.sh ")):
            continue
        words = shlex.split(line, comments=True)
        shell = next((i for i, word in enumerate(words) if word in (">", "2>&1", "|")), len(words))
        words = words[:shell]
        if words[:1] == ["make"] and len(words) > 1:
            assert words[1] in targets, line
        if words[:1] == ["jobs/run_local.sh"] and len(words) > 2:
            words = ["hpcembed", "run", *words[2:]]
        if words[:1] == ["hpcembed"] and len(words) > 2 and words[1] != "bench":
            cli._parse(words[1:], rank=0)


@of([ROOT / "README.md", ROOT / "solvers" / "miramns" / "README.md"])
def test_python_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = {}
    for text in blocks(page, "python"):
        if "my_model" not in text:  # of a run that is not made here
            exec(compile(text, page.name, "exec"), space)
    assert capsys.readouterr().out
