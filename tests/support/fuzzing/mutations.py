"""Mutations of files: of bytes, of numbers and words in texts, and of values in documents."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["HOSTILE_INTEGERS", "HOSTILE_NAMES", "json_text", "mutate", "mutate_value", "pick"]

Rng = np.random.Generator

HOSTILE_INTEGERS = (
    -1, 0, 1, 2, 127, 128, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62,
    2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63), 10**30,
)  # fmt: skip
HOSTILE_NAMES = (
    "", " ", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "<script>alert(1)</script>",
    "\"'><img src=x>",
    "=1+1", "@SUM(A1)", "+1", "-1", "\tx", "\rx", "a\nb", "\u202egnp.exe", "\u2028",
    "../../outside",
    "/etc/passwd", "a" * 5000, "\x00", "%s%n{0}", "nan", "ä" * 300, "\ufeffx", "]]>", "${x}",
)  # fmt: skip
_NUMBERS = (
    b"-1", b"0", b"1", b"2147483648", b"9223372036854775808", b"99999999999999999999999999",
    b"1e999", b"-1e999", b"nan", b"inf", b"-inf", b"1_000", b"0x10", b"1e-400", b"", b"1,5",
    b"\xd9\xa1", b"1" * 400, b"NULL", b"4294967296", b"1000000000",
)  # fmt: skip
_FRAGMENTS = (
    b"\0", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\t", b",", b";", b'"', b"'", b"#", b"%", b":",
    b"{", b"}", b"[", b"]", b"(", b"\\", b"\xff\xff\xff\xff", b"\x80", b"\xed\xa0\x80", b"\0\0\0\0",
    b"\x7f\xff\xff\xff", b"9" * 40, b"qid:3", b"nan", b"\x1b[2J", b"<b>", b"../", b"\x1f\x8b",
)  # fmt: skip


def pick(rng: Rng, choices: Any) -> Any:
    """Return one of some choices."""
    return choices[int(rng.integers(len(choices)))]


def mutate(rng: Rng, content: bytes) -> bytes:
    """Return a mutated file: one or several mutations."""
    for _ in range(int(rng.integers(1, 4))):
        content = pick(rng, _MUTATIONS)(rng, content)
        if len(content) > 2**18:
            content = content[: 2**18]
    return content


def _place(rng: Rng, content: bytes) -> int:
    """Return a position; headers and ends, where structure is, are more frequent."""
    n = len(content)
    low, high = pick(rng, ((0, n), (0, min(n, 128)), (max(0, n - 128), n)))
    return int(rng.integers(low, high + 1))


def _flip(rng: Rng, content: bytes) -> bytes:
    if not content:
        return content
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        changed[min(_place(rng, content), len(content) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _integer(rng: Rng, content: bytes) -> bytes:
    """Overwrite an integer of a header."""
    width, place = pick(rng, (1, 2, 4, 8)), _place(rng, content)
    if rng.random() < 0.5:
        place -= place % width
    number = pick(rng, HOSTILE_INTEGERS) % 2 ** (8 * width)
    written = int(number).to_bytes(width, pick(rng, ("little", "big")))
    return content[:place] + written + content[place + width :]


def _insert(rng: Rng, content: bytes) -> bytes:
    place = _place(rng, content)
    return content[:place] + pick(rng, _FRAGMENTS) + content[place:]


def _overwrite(rng: Rng, content: bytes) -> bytes:
    place, piece = _place(rng, content), pick(rng, _FRAGMENTS)
    return content[:place] + piece + content[place + len(piece) :]


def _delete(rng: Rng, content: bytes) -> bytes:
    place, width = _place(rng, content), pick(rng, (1, 1, 2, 4, 8, 64, 512))
    return content[:place] + content[place + width :]


def _truncate(rng: Rng, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def _extend(rng: Rng, content: bytes) -> bytes:
    piece = pick(rng, (b"\0", b"\n", b"x", b" ", b"1,", b"\xff"))
    return content + piece * int(pick(rng, (1, 7, 511, 4096)))


def _repeat(rng: Rng, content: bytes) -> bytes:
    place, width = _place(rng, content), int(pick(rng, (8, 64, 512, len(content) or 1)))
    return content[:place] + content[max(0, place - width) :]


def _number(rng: Rng, content: bytes) -> bytes:
    """Replace a number that is written in digits."""
    found = [one.span() for one in re.finditer(rb"-?\d+(?:\.\d*)?", content[: 2**16])]
    if not found:
        return _integer(rng, content)
    begin, end = pick(rng, found[:8] if rng.random() < 0.5 else found)
    return content[:begin] + pick(rng, _NUMBERS) + content[end:]


def _word(rng: Rng, content: bytes) -> bytes:
    """Replace a word by a hostile name."""
    found = [one.span() for one in re.finditer(rb"[A-Za-z]\w*", content[: 2**16])]
    if not found:
        return _insert(rng, content)
    begin, end = pick(rng, found)
    return content[:begin] + pick(rng, HOSTILE_NAMES).encode() + content[end:]


def _whole(rng: Rng, content: bytes) -> bytes:
    """Change the encoding of the whole file, or its content."""
    text = content.decode("latin-1")
    return pick(
        rng,
        (
            lambda: b"",
            lambda: b"\xef\xbb\xbf" + content,
            lambda: text.encode("utf-16"),
            lambda: gzip.compress(content),
            lambda: gzip.compress(content)[:-5],
            lambda: gzip.compress(bytes(2**23), 1),
            lambda: content.replace(b"\n", b"\r\n"),
            lambda: content.replace(b"\n", b"\r"),
            lambda: bytes(len(content)),
            lambda: rng.bytes(max(1, len(content) // 2)),
            lambda: content[::-1],
            lambda: content * 3,
        ),
    )()


_MUTATIONS: tuple[Callable[[Rng, bytes], bytes], ...] = (
    _flip, _flip, _integer, _integer, _insert, _overwrite, _delete, _truncate, _extend, _repeat,
    _number, _number, _word, _whole,
)  # fmt: skip

# ------------------------------------------------------------------------------------- documents


def mutate_value(rng: Rng, value: Any) -> Any:
    """Return a document of dictionaries, lists and values with one part changed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = pick(rng, list(value))
        changed = dict(value)
        action = rng.random()
        if action < 0.1:
            del changed[key]
        elif action < 0.15:
            changed[pick(rng, HOSTILE_NAMES)] = changed.pop(key)
        else:
            changed[key] = mutate_value(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.75:
        place = int(rng.integers(len(value)))
        action = rng.random()
        if action < 0.15:
            return value[:place]
        if action < 0.3:
            return [*value, value[place]]
        return [*value[:place], mutate_value(rng, value[place]), *value[place + 1 :]]
    return _hostile_value(rng, value)


def _hostile_value(rng: Rng, value: Any) -> Any:
    others: list[Any] = [
        None, True, [], {}, "", 0, -1, math.nan, math.inf, 1e308, [[]], {"a": 1}, [value], [None],
        _nested(pick(rng, (5, 60, 5000))),
        *HOSTILE_INTEGERS,
        *HOSTILE_NAMES,
    ]  # fmt: skip
    if isinstance(value, bool):
        return pick(rng, (not value, 1, None, "true", [value]))
    if isinstance(value, int | float) and rng.random() < 0.6:
        return pick(rng, (*HOSTILE_INTEGERS, -value, value + 1, float(value), str(value), math.nan))
    if isinstance(value, str) and rng.random() < 0.6:
        return pick(rng, (*HOSTILE_NAMES, value + "x", value[:-1], value.upper()))
    return pick(rng, others)


class _Raw(str):
    """JSON text that is inserted as it is."""


def _nested(depth: int) -> _Raw:
    return _Raw("[" * depth + "]" * depth)


def json_text(value: Any) -> bytes:
    """Return a document as JSON, with NaN and infinity as Python writes them."""
    raws: dict[str, str] = {}

    def plain(one: Any) -> Any:
        if isinstance(one, _Raw):
            name = f"raw-{len(raws)}-value"
            raws[json.dumps(name)] = one
            return name
        if isinstance(one, dict):
            return {key: plain(item) for key, item in one.items()}
        return [plain(item) for item in one] if isinstance(one, list | tuple) else one

    text = json.dumps(plain(value), ensure_ascii=False)
    for name, raw in raws.items():
        text = text.replace(name, raw)
    return text.encode("utf-8", "surrogatepass")
