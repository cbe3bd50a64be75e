"""The examples of the docstrings and of the README run, in serial."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path

import pytest

import miramns

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(miramns.__path__, "miramns.")
    if not name.startswith("miramns.bench")
]


@pytest.mark.lapack
@pytest.mark.parametrize("name", ["miramns", *MODULES])
def test_examples(name):
    # functions of the package have the names of their modules: miramns.solve is one
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("name", sorted(set(miramns.__all__) - {"__version__"}))
def test_public_names_have_examples(name):
    public = getattr(miramns, name)
    text = inspect.getdoc(public) or ""
    assert ">>> " in text, f"miramns.{name} has no example"


def test_the_example_of_the_readme():
    text = (Path(miramns.__file__).parent / "README.md").read_text("utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    assert code.count("\n") <= 14
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert "3 of 3 eigenpairs" in out.getvalue()
