"""Bytes of a document to text: decoding, removal of mail headers and of quoted lines.

Headers are the lines up to the first blank line, provided that the first line of the document has
the form of a header (``Name: value``, or the ``From `` line of a mailbox). Quoted lines start with
``>`` or ``|`` after optional blanks and up to three letters (initials). Lines that introduce a
quotation (``... wrote:``, ``In article <...``) are removed with them. Both rules are heuristics:
some quotations remain, and a line that starts with a bar is removed even if it is not a quotation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["Cleaner", "TextRules"]

_HEADER = re.compile(r"(?:From |[!-9;-~]+:)")
_BLANK_LINE = re.compile(r"\n[ \t]*(?:\n|\Z)")
_QUOTED = re.compile(r"(?m)^[ \t]*[A-Za-z]{0,3}[>|].*$")
_INTRODUCTION = re.compile(
    r"(?m)^(?:.*\b(?:wrote|writes|said|says)(?: in [^\n]*)?:[ \t]*|[ \t]*In article[ \n].*)$"
)


@dataclass(frozen=True, slots=True)
class TextRules:
    """Rules for decoding and cleaning documents.

    Attributes
    ----------
    headers, quoting : {"keep", "remove"}
        Mail and news headers; quoted lines and the lines that introduce them.
    encoding : str
        Name of a text encoding of Python.
    encoding_errors : {"replace", "refuse"}
        Replace bytes that cannot be decoded by U+FFFD, or raise an error.

    Raises
    ------
    ConfigError
        An encoding that does not exist or does not decode to text.
    """

    headers: str = "keep"
    quoting: str = "keep"
    encoding: str = "utf-8"
    encoding_errors: str = "replace"

    def __post_init__(self) -> None:
        try:
            b"a".decode(self.encoding)
        except UnicodeDecodeError:
            return  # the encoding exists; it takes several bytes per character
        except (LookupError, ValueError) as error:
            raise ConfigError(
                f"data.encoding = {self.encoding!r} is not a text encoding of Python: use utf-8, "
                "latin-1, cp1252, ..."
            ) from error

    def check_ascii_compatible(self) -> None:
        """Refuse an encoding in which line ends and separators differ from ASCII.

        Raises
        ------
        ConfigError
        """
        ascii_bytes = bytes(range(128))
        try:
            agrees = ascii_bytes.decode(self.encoding) == ascii_bytes.decode("ascii")
        except UnicodeDecodeError:
            agrees = False
        if not agrees:
            raise ConfigError(
                f"data.encoding = {self.encoding}: lines and columns are separated by ASCII bytes: "
                "convert the file to utf-8"
            )


class Cleaner:
    r"""Decode and clean documents, and count the characters that were replaced.

    Attributes
    ----------
    n_replaced, n_documents : int
        Number of characters U+FFFD inserted, and number of documents that contain them.

    Examples
    --------
    >>> cleaner = Cleaner(TextRules(headers="remove", quoting="remove"))
    >>> cleaner.clean("Subject: ships\n\nAnn wrote:\n> old text\nnew text").strip()
    'new text'
    >>> cleaner.decode(b"na\xefve", "letter.txt"), cleaner.n_replaced
    ('na\ufffdve', 1)
    """

    def __init__(self, rules: TextRules) -> None:
        self.rules = rules
        self.n_replaced = self.n_documents = 0

    def decode(self, raw: bytes, name: str) -> str:
        """Decode the bytes of one document.

        Parameters
        ----------
        raw : bytes
        name : str
            Name of the document, for messages.

        Raises
        ------
        InputError
            Bytes that cannot be decoded, if ``encoding_errors`` is "refuse".
        """
        encoding = self.rules.encoding
        try:
            return raw.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            if self.rules.encoding_errors == "refuse":
                raise InputError(
                    f"{name}: byte {error.start + 1} is not {encoding}: set data.encoding "
                    "(latin-1?), or data.encoding_errors = replace"
                ) from error
        text = raw.decode(encoding, errors="replace").removeprefix("\ufeff")
        self.n_replaced += text.count("\ufffd")
        self.n_documents += 1
        return text

    def clean(self, text: str) -> str:
        """Remove headers and quotations from a text, according to the rules."""
        if self.rules.headers == self.rules.quoting == "keep":
            return text
        text = text.replace("\r\n", "\n")
        if self.rules.headers == "remove" and _HEADER.match(text):
            end = _BLANK_LINE.search(text)
            text = text[end.end() :] if end else ""
        if self.rules.quoting == "remove":
            text = _QUOTED.sub("", _INTRODUCTION.sub("", text))
        return text
