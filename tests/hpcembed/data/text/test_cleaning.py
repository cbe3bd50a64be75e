"""Bytes to text: encodings, mail headers, quoted lines."""

from __future__ import annotations

import numpy as np
import pytest

from hpcembed.data.text.cleaning import Cleaner, TextRules
from hpcembed.data.text.tokens import index_tokens, tokenise
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.runtime.errors import ConfigError, InputError

MAIL = (
    "From: a@b\nSubject: rigging\n\nIn article <1@x> b@c writes:\n"
    "> old text\n JD> more\nnew | text\n"
)


def test_headers_and_quoting():
    keep = Cleaner(TextRules()).clean(MAIL)
    assert keep == MAIL
    bare = Cleaner(TextRules(headers="remove"))
    assert bare.clean(MAIL) == MAIL.partition("\n\n")[2]
    assert bare.clean(MAIL.replace("\n", "\r\n")) == MAIL.partition("\n\n")[2]
    assert bare.clean("From x Mon\nTo: y\n \nbody") == "body"
    assert bare.clean("Subject: all header") == ""
    plain = "no header: here\n\nsecond part"
    assert bare.clean(plain) == plain
    both = Cleaner(TextRules(headers="remove", quoting="remove"))
    assert both.clean(MAIL).split() == ["new", "|", "text"]
    assert both.clean("he wrote: stay\nx 3 > 2\nAnn wrote:\n| gone").split("\n")[:2] == [
        "he wrote: stay", "x 3 > 2",
    ]  # fmt: skip


def test_encodings():
    cleaner = Cleaner(TextRules())
    assert cleaner.decode(b"\xef\xbb\xbfna\xc3\xafve", "a") == "naïve"
    assert cleaner.n_replaced == 0
    assert cleaner.decode(b"na\xefve \xff", "a") == "na\ufffdve \ufffd"
    assert (cleaner.n_replaced, cleaner.n_documents) == (2, 1)
    assert Cleaner(TextRules(encoding="latin-1")).decode(b"na\xefve", "a") == "naïve"
    with pytest.raises(InputError, match=r"a: byte 3 is not utf-8: set data\.encoding"):
        Cleaner(TextRules(encoding_errors="refuse")).decode(b"na\xefve", "a")
    for name in ("utf-9", "rot13", "zlib", "a\0b"):
        with pytest.raises(ConfigError, match=r"data\.encoding"):
            TextRules(encoding=name)
    with pytest.raises(ConfigError, match="convert the file"):
        TextRules(encoding="utf-16").check_ascii_compatible()
    TextRules(encoding="cp1252").check_ascii_compatible()


def test_tokens():
    text = "Don't SHOUT, naïve 3d x_1 a 22!\nШторм"
    assert tokenise(text) == ["don", "shout", "naïve", "3d", "x_1", "22", "шторм"]
    indexed = index_tokens(["b! bb aa bb", "", "aa cc"])
    assert indexed.tokens == ("bb", "aa", "cc")
    np.testing.assert_array_equal(indexed.ids, [0, 1, 0, 1, 2])
    np.testing.assert_array_equal(indexed.starts, [0, 3, 3, 5])
    assert indexed.n_documents == 3


def test_vocabulary():
    vocabulary = Vocabulary(["aa", "bb"], [2, 1], [5, 1], 3)
    np.testing.assert_array_equal(vocabulary.ids(["bb", "zz", "aa"]), [1, -1, 0])
    assert vocabulary.ids([]).shape == (0,)
    np.testing.assert_array_equal(
        vocabulary.term_ids(index_tokens(["bb aa", "cc bb"])), [1, 0, -1, 1]
    )
    assert len(vocabulary) == 2
    assert "aa" in vocabulary
    assert "cc" not in vocabulary
    assert vocabulary.n_documents == 3
    assert vocabulary.document_frequencies.tolist() == [2, 1]
    assert vocabulary.term_frequencies.tolist() == [5, 1]
    for terms in (["bb", "aa"], ["aa", "aa"]):
        with pytest.raises(ValueError, match="sorted"):
            Vocabulary(terms, [1, 1], [1, 1], 2)
    with pytest.raises(ValueError, match="shape"):
        Vocabulary(["aa"], [1, 1], [1], 2)
