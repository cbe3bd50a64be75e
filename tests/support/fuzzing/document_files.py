"""Texts: folders, tar archives, lines and CSV."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpi4py import MPI

from fuzzing.formats import Files, Format, Rng, register
from fuzzing.mutations import HOSTILE_INTEGERS, HOSTILE_NAMES, pick
from fuzzing.reading import read_as_job
from hpcembed.data.text.reading import read_text

_WORDS = ["sea", "ship", "storm", "port", "road", "tree", "hill", "bird", "song", "rain"]


def _texts(rng: Rng) -> tuple[list[str], list[str]]:
    n = int(rng.integers(4, 9))
    texts = [" ".join(pick(rng, _WORDS) for _ in range(int(rng.integers(2, 6)))) for _ in range(n)]
    return texts, ["ab"[i % 2] for i in range(n)]


def _reader(name: str, format: str, **keys: Any) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        found = read_text(folder / name, MPI.COMM_SELF, format=format, **keys)
        labels = [found.labels.values[code] for code in found.labels.codes]
        read_as_job(folder, train=(name,), format=format, **keys)
        return list(found.texts), labels

    return read


def _lines(rng: Rng) -> tuple[Files, Any]:
    texts, labels = _texts(rng)
    lines = [f"{label} {text}" for text, label in zip(texts, labels, strict=True)]
    content = (pick(rng, ("\n", "\r\n")).join(lines) + "\n").encode()
    packed = gzip.compress(content, mtime=0) if rng.random() < 0.3 else content
    return {"a.txt": packed}, (texts, labels)


def _hostile_lines(rng: Rng) -> Files:
    lines = [f"{'ab'[i % 2]} sea ship" for i in range(8)]
    lines[int(rng.integers(8))] = pick(
        rng,
        (*HOSTILE_NAMES, "a", "a " + "x" * 70_000, "a " + "sea " * 20_000, "\x00 a", "a \ud800",
         "a " + "\u0301" * 3000, "From: x\nSubject: y", "a >> quoted"),
    )  # fmt: skip
    return {"a.txt": "\n".join(lines).encode("utf-8", "surrogatepass")}


def _csv(rng: Rng) -> tuple[Files, Any]:
    texts, labels = _texts(rng)
    lines = [f'"{text}",{label}' for text, label in zip(texts, labels, strict=True)]
    return {"a.csv": "\n".join(["text,kind", *lines]).encode()}, (texts, labels)


def _hostile_csv(rng: Rng) -> Files:
    lines = [f'"sea, ship\n{i}",{"ab"[i % 2]}' for i in range(8)]
    name = pick(rng, HOSTILE_NAMES)
    lines[int(rng.integers(8))] = pick(
        rng, ('"open,a', 'x"y,a', '""",a', "a", "a,b,c", f'"{name}",a', f"x,{name}", '"",a',
              '"a"b,c',
              '"' + "x" * 200_000 + '",a')
    )  # fmt: skip
    header = pick(rng, ("text,kind",) * 6 + ("text,text", "kind", f"text,{name}", "", '"text,kind'))
    return {"a.csv": "\n".join([header, *lines]).encode("utf-8", "surrogatepass")}


def _folder(rng: Rng) -> tuple[Files, Any]:
    texts, labels = _texts(rng)
    files = {f"texts/{label}/{i:03}.txt": text.encode() for i, (text, label) in
             enumerate(zip(texts, labels, strict=True))}  # fmt: skip
    order = sorted(files)
    return files, ([files[name].decode() for name in order], [name.split("/")[1] for name in order])


def _hostile_folder(rng: Rng) -> Files:
    files, _ = _folder(rng)
    files["outside/secret.txt"] = b"secret"
    for _ in range(int(rng.integers(1, 3))):
        which = int(rng.integers(6))
        if which == 0:
            files[f"texts/a/link{rng.integers(9)}.txt"] = pick(
                rng,
                (b"link:../../outside/secret.txt", b"link:/etc/hostname", b"link:gone",
                 b"link:../b", b"link:/dev/zero", b"link:/proc/self/mem"),
            )  # fmt: skip
        elif which == 1:
            files[f"texts/loop{rng.integers(9)}"] = pick(rng, (b"link:.", b"link:..", b"link:/"))
        elif which == 2:
            name = pick(rng, ("\x1b[31m", "<b>", "=1", "-1", "a" * 200, " ", "nan", "a\nb"))
            files[f"texts/{name}/x.txt"] = b"sea ship"
        elif which == 3:
            files["texts/x.txt"] = b"sea"
        elif which == 4:
            files["texts/a/new.txt"] = pick(
                rng, (b"", b"\xff\xfe\x00", bytes(1000), b"x" * 10**6, b"\x1b[2J" * 50)
            )
        else:
            files["texts/" + "d/" * 40 + "x.txt"] = b"sea"
    return files


def _member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE, **facts: Any) -> Any:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def _archive(members: list[Any]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return stream.getvalue()


def _tar(rng: Rng) -> tuple[Files, Any]:
    texts, labels = _texts(rng)
    members = [_member(f"t/{label}/{i}.txt", text.encode())
               for i, (text, label) in enumerate(zip(texts, labels, strict=True))]  # fmt: skip
    content = _archive(members)
    return {"a.tar": gzip.compress(content, mtime=0) if rng.random() < 0.4 else content}, (
        texts, labels
    )  # fmt: skip


def _hostile_tar(rng: Rng) -> Files:
    members = [_member(f"t/{'ab'[i % 2]}/{i}.txt", b"sea ship") for i in range(6)]
    other = pick(
        rng,
        (
            _member("/etc/cron.d/x", b"x"),
            _member("../../outside/x.txt", b"x"),
            _member("t/a/link", b"", tarfile.SYMTYPE, linkname="/etc/passwd"),
            _member("t/a/hard", b"", tarfile.LNKTYPE, linkname="../../outside/secret.txt"),
            _member("t/a/device", b"", tarfile.CHRTYPE, devmajor=1, devminor=5),
            _member("t/a/pipe", b"", tarfile.FIFOTYPE),
            _member("t/\x1b[31m/x", b"x"),
            _member("t/<b>/x", b"x"),
            _member("x.txt", b"x"),
            _member("t/" + "d/" * 300 + "x", b"x"),
            _member("t/a/" + "n" * 3000, b"x"),
            _member("t/a/zero", bytes(2**22)),
        ),
    )
    members.insert(int(rng.integers(len(members))), other)
    content = bytearray(_archive(members))
    if rng.random() < 0.5:  # another size in a header, with a check sum that fits
        place = 512 * int(rng.integers(0, 4)) * 2
        number = pick(rng, (*HOSTILE_INTEGERS, 10**9))
        size = b"\x80" + (number % 2**88).to_bytes(11, "big") if rng.random() < 0.4 else (
            f"{number % 2**33:011o}\0".encode()
        )  # fmt: skip
        head = bytearray(content[place : place + 512])
        head[124:136] = size[:12]
        head[156:157] = pick(rng, (head[156:157], b"x", b"L", b"S", b"g", b"K"))
        head[148:156] = b" " * 8
        head[148:156] = f"{sum(head):06o}\0 ".encode()
        content[place : place + 512] = head
    return {"a.tar": gzip.compress(bytes(content)) if rng.random() < 0.4 else bytes(content)}


register(Format("text lines", _lines, _reader("a.txt", "text_lines"), _hostile_lines))
register(
    Format(
        "text csv", _csv,
        _reader("a.csv", "text_csv", text_column="text", label_column="kind"), _hostile_csv,
    )
)  # fmt: skip
register(Format("text folder", _folder, _reader("texts", "text_folder"), _hostile_folder))
register(Format("text tar", _tar, _reader("a.tar", "text_tar"), _hostile_tar))
