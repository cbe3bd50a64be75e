"""References generated from the code, pages of the repository on the site, and the examples."""

import doctest
import importlib
import os
import re
import runpy
from pathlib import Path

import msgspec
import numpy as np
import pytest

import hpcembed
import miramns

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))


@pytest.fixture
def extension(monkeypatch):
    """Import a module of docs/extensions or scripts."""
    for folder in ("docs/extensions", "scripts"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return importlib.import_module


def test_api_page_lists_every_public_name():
    text = (ROOT / "docs" / "reference" / "api.rst").read_text(encoding="utf-8")
    first, second = text.split(".. currentmodule:: miramns")
    names = [set(re.findall(r"^   (\w+)$", part, re.MULTILINE)) for part in (first, second)]
    assert names[0] == set(hpcembed._PUBLIC)
    assert names[1] == {name for name in miramns.__all__ if name != "__version__"}


def test_keys_have_type_default_and_meaning(extension):
    module = extension("configuration_reference")
    found = {name: module.keys_of(section) for name, section in module.sections().items()}
    assert {"data", "embedding", "solver", "training", "classifier", "study"} <= set(found)
    keys = {f"{name}.{key.name}": key for name, keys in found.items() for key in keys}
    assert all(key.kind and key.default and key.meaning for key in keys.values())
    assert keys["solver.tol"].kind == "number, above 0 and below 1"
    assert keys["solver.tol"].default == "1e-10"
    assert keys["embedding.engine"].kind.startswith("`auto`, `assembled`")
    assert keys["embedding.method"].meaning.startswith("pca: principal components; svd:")
    assert keys["training.patience"].meaning.startswith("Epochs without improvement")
    assert keys["graph.directed"].meaning.startswith("One weight for the two directions")
    assert keys["data.train"].default == "[]"
    text = module.configuration_keys()
    assert all(f"`{name}`" in text for name in keys)


class Bare(msgspec.Struct):
    #: a meaning
    described: int = 0

    bare: int = 1


def test_key_without_meaning_is_an_error(extension):
    with pytest.raises(ValueError, match=r"Bare\.bare has no meaning: add a comment"):
        extension("configuration_reference").keys_of(Bare)


def test_command_line_lists_every_command(extension):
    text = extension("command_line_reference").command_lines()
    commands = re.findall(r"^## hpcembed ([\w -]+)$", text, re.MULTILINE)
    expected = {"run", "study", "compress", "compress-model", "complete", "export", "predict"}
    assert expected | {"info", "bench eigensolvers", "bench pca"} <= set(commands)
    assert "`--max-loss POINTS`\n: Largest loss of accuracy" in text
    assert "`--problems " in text  # of the benchmark's own parser


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](../CONTRIBUTING.md#layout)", "[a](contributing.md#layout)"),
        ("[`cost.py`](../hpcembed/operators/cost.py)", "`cost.py`"),
        ("[folder](../tests/miramns/cases)", "folder"),
        ("[page](pca.md#engines)", "[page](pca.md#engines)"),
        ("![figure](pca/fit.svg)", "![figure](pca/fit.svg)"),
        ("[site](https://example.org)", "[site](https://example.org)"),
        ("```sh\n[a](../CONTRIBUTING.md)\n```", "```sh\n[a](../CONTRIBUTING.md)\n```"),
    ],
)
def test_links_on_the_site(extension, link, expected):
    pages = {"contributing": "CONTRIBUTING.md"}
    text = extension("repository_pages").site_text(link, "docs/a.md", "a", pages)
    assert text == expected


def test_links_of_a_repository_page(extension):
    pages = {"explanations/benchmarks": "benchmarks/README.md"}
    rewrite = extension("repository_pages").site_text
    source, page = "benchmarks/README.md", "explanations/benchmarks"
    assert rewrite("[p](../docs/pca.md)", source, page, pages) == "[p](../pca.md)"


@pytest.mark.parametrize("name", ["documentation_blocks", "repository_pages"])
def test_examples_of_docstrings(extension, name):
    result = doctest.testmod(extension(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_block_runs_or_has_a_reason(extension):
    runner = extension("run_documentation")
    pages = runner.pages()
    assert ROOT / "README.md" in pages
    for page in pages:
        for result in runner._listed(page):
            assert result.status == "runs" or len(result.status) > len("not run: "), page


def test_block_without_reason_is_refused(extension, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text\n\n<!-- not run: -->\n```sh\nls\n```\n")
    with pytest.raises(ValueError, match=r"page\.md:4: a block that is not run needs a reason"):
        extension("documentation_blocks").blocks_of(page)


PAGE = """\
```toml
# job.toml
a = 1
```

```sh
cat job.toml   # a comment
make nothing
```

<!-- output: last 1 lines -->
```text
old
```

```python
rows.shape
x = 2
```

```python
print(x + 1)
```

<!-- output -->
```text
```

<!-- not run: the reader's own -->
```python
undefined
```
"""


def test_runner_runs_blocks_and_updates_outputs(extension, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((2, 2)))
    np.save(tmp_path / "labels.npy", np.zeros(2))
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    results = extension("run_documentation").run_page(page, tmp_path, update=True)
    assert [result.status for result in results] == [
        "ok",
        "not run: a target of the Makefile: .ci/run",
        "ok",
        "ok",
        "not run: the reader's own",
    ]
    assert "```text\na = 1\n```" in page.read_text()
    assert "```text\n3\n```" in page.read_text()


def test_runner_takes_a_failed_block_for_no_later_block(extension, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((2, 2)))
    np.save(tmp_path / "labels.npy", np.zeros(2))
    page = tmp_path / "page.md"
    page.write_text("```python\n1 / 0\n```\n\n```python\nprint(rows.shape)\n```\n")
    results = extension("run_documentation").run_page(page, tmp_path, update=False)
    assert [result.failed for result in results] == [True, False]
    assert "ZeroDivisionError" in results[0].error
    assert results[1].output == "(2, 2)\n"


def test_runner_writes_files_and_keeps_one_python_process_for_a_page(extension, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((2, 2)))
    np.save(tmp_path / "labels.npy", np.zeros(2))
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# printed.py\nprint(6 * 7)\n```\n\n```sh\npython printed.py\n```\n\n"
        "```python\nopen('once', 'x').close()\nvalue = 5\nprint('hidden')\n```\n\n"
        "```python\nprint(value)\n```\n"
    )
    runner = extension("run_documentation")
    results = runner.run_page(page, tmp_path, update=False)
    assert [result.output for result in results] == ["42\n", "hidden\n", "5\n"]
    assert not any(result.failed for result in results)
    assert [result.command for result in runner._listed(page)] == [
        "python printed.py",
        "Python block in line 10",
        "Python block in line 16",
    ]


@pytest.mark.parametrize(("status", "failed"), [(0, False), (4, False), (5, False), (2, True)])
def test_an_answer_of_compress_is_no_failure(extension, tmp_path, monkeypatch, status, failed):
    program = tmp_path / "hpcembed"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    runner = extension("run_documentation")
    monkeypatch.setattr(runner, "_environment", lambda: {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    page = tmp_path / "page.md"
    page.write_text("```sh\nhpcembed compress job.toml\nhpcembed run job.toml\n```\n")
    results = runner.run_page(page, tmp_path, update=False)
    assert [result.failed for result in results] == [failed, status != 0]


def test_a_block_that_takes_too_long_ends_the_process(extension, tmp_path):
    blocks = extension("documentation_python").PythonBlocks(tmp_path, dict(os.environ), 0.5)
    try:
        output, error = blocks.run("import time\ntime.sleep(60)")
        assert (output, "limit 0.5 s" in error) == ("", True)
        assert blocks.run("print(1)") == ("", "the Python process ended in an earlier block")
    finally:
        blocks.close()


def test_runner_reports_failures_and_keeps_the_page(extension, tmp_path):
    page = tmp_path / "page.md"
    text = "```sh\necho new\nfalse\n```\n\n<!-- output -->\n```text\nold\n```\n"
    page.write_text(text)
    results = extension("run_documentation").run_page(page, tmp_path, update=True)
    assert [result.failed for result in results] == [False, True]
    assert results[1].status == "exit status 1"
    assert page.read_text() == text


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_runs(path, monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda: None)
    pyplot.close("all")
    runpy.run_path(str(path), run_name="__main__")
    assert len(pyplot.get_fignums()) == 1
    assert pyplot.gcf().axes
    pyplot.close("all")
