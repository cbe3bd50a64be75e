"""Numbers with their nouns, here and in all messages."""

import ast
import re
from pathlib import Path

import pytest

from hpcembed.runtime.wording import counted

PACKAGE = Path(__file__).parents[3] / "hpcembed"
#: Nouns that occur once in a usual job.
NOUN = re.compile(r" (?:[A-Za-z]+ )?(?:ranks|threads|seeds|trials|test rows)\b")
#: Numbers that are larger than 1 there.
ALLOWED = {"names", "name", "_count(n_test)"}


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 ranks"), (1, "1 rank"), (2, "2 ranks"), (1000, "1,000 ranks")]
)
def test_counted(number, expected):
    assert counted(number, "rank") == expected


def plurals(tree):
    """Numbers in formatted text that a plural follows."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                is_text = isinstance(after, ast.Constant)
                if isinstance(value, ast.FormattedValue) and is_text and NOUN.match(after.value):
                    yield f"{ast.unparse(value.value)}{after.value[:20]}", ast.unparse(value.value)


def test_the_search_finds_plurals():
    assert list(plurals(ast.parse('f"{n} ranks"'))) == [("n ranks", "n")]


def test_messages_have_singulars():
    found = [
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for text, name in plurals(ast.parse(path.read_text("utf-8")))
        if name not in ALLOWED
    ]
    assert not found, "use hpcembed.runtime.wording.counted"
