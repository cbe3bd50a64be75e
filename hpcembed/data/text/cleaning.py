"""From the bytes of a document to its text: encoding, mail headers, quoted lines.

Headers are the lines up to the first blank one, where the first line of the document looks like
one (``Name: value``, or the ``From `` of a mailbox); another document is left as it is. Quoted
lines begin with ``>`` or ``|``, perhaps behind blanks and up to three letters (initials); the lines
that announce them go too (``... wrote:``, ``In article <...``). Both are rules of thumb: some
quotations stay, and a line that begins with a bar goes though it quotes nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["Cleaner", "TextRules"]

_HEADER = re.compile(r"(?:From |[!-9;-~]+:)")
_BLANK_LINE = re.compile(r"\n[ \t]*(?:\n|\Z)")
_QUOTED = re.compile(r"(?m)^[ \t]*[A-Za-z]{0,3}[>|].*$")
_ANNOUNCED = re.compile(
    r"(?m)^(?:.*\b(?:wrote|writes|said|says)(?: in [^\n]*)?:[ \t]*|[ \t]*In article[ \n].*)$"
)


@dataclass(frozen=True, slots=True)
class TextRules:
    """How bytes become text.

    Attributes
    ----------
    headers, quoting : {"keep", "remove"}
        Mail and news headers; quoted lines and those that announce them.
    encoding : str
        A name that Python knows.
    encoding_errors : {"replace", "refuse"}
        Bytes that are not of the encoding become U+FFFD, or end the job.

    Raises
    ------
    ConfigError
        An encoding that is not known or gives no text.
    """

    headers: str = "keep"
    quoting: str = "keep"
    encoding: str = "utf-8"
    encoding_errors: str = "replace"

    def __post_init__(self) -> None:
        try:
            b"a".decode(self.encoding)
        except UnicodeDecodeError:
            return  # a known one, of more bytes a character
        except (LookupError, ValueError) as error:
            raise ConfigError(
                f"data.encoding: {self.encoding!r} is no text encoding that Python knows: use "
                "utf-8, latin-1, cp1252, ..."
            ) from error

    def check_lines(self) -> None:
        """Refuse an encoding in which line ends and separators are not the bytes of ASCII.

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
                f"data.encoding = {self.encoding}: lines and columns are found by their bytes in "
                "ASCII: convert the file to utf-8"
            )


class Cleaner:
    """Applies rules to documents and counts what had to be replaced.

    Not collective.

    Attributes
    ----------
    n_replaced, n_documents : int
        Characters U+FFFD that were put in, and the documents that have them.
    """

    def __init__(self, rules: TextRules) -> None:
        self.rules = rules
        self.n_replaced = self.n_documents = 0

    def decode(self, raw: bytes, name: str) -> str:
        """The text of some bytes; `name` is for messages.

        Raises
        ------
        InputError
            Bytes that are not of the encoding, where that is to be refused.
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
        """A text without what the rules remove."""
        if self.rules.headers == self.rules.quoting == "keep":
            return text
        text = text.replace("\r\n", "\n")
        if self.rules.headers == "remove" and _HEADER.match(text):
            end = _BLANK_LINE.search(text)
            text = text[end.end() :] if end else ""
        if self.rules.quoting == "remove":
            text = _QUOTED.sub("", _ANNOUNCED.sub("", text))
        return text
