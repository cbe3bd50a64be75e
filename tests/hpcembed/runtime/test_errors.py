"""Texts of errors: one line without control characters, of limited length."""

import time

import pytest

from hpcembed.runtime import errors
from hpcembed.runtime.errors import HpcembedError, InputError, OutputError

KINDS = [one for one in vars(errors).values() if isinstance(one, type)]


@pytest.mark.parametrize("kind", KINDS)
def test_names_from_files_are_escaped(kind):
    error = kind("a.csv: no column 'red\x1b[31m\nb\t\u202e'")
    assert str(error) == r"a.csv: no column 'red\x1b[31m\nb\t\u202e'"


def test_the_text_of_an_error_that_is_raised_again_is_the_same():
    text = str(InputError("row 3: \x1b"))
    assert str(OutputError(text)) == text


@pytest.mark.parametrize("sign", ["a", "\0"])
def test_long_texts_are_cut_in_the_middle(sign):
    start = time.process_time()
    text = str(HpcembedError(f"begin {sign * 2**25} end"))
    assert time.process_time() - start < 2
    assert text.startswith("begin ")
    assert text.endswith(" end")
    assert "[...]" in text
    assert len(text) <= 2000
