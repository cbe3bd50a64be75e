"""The fuzz harness finds what it searches for: each promise is broken once, on purpose."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fuzzing.campaign import Limits, run_chunk
from fuzzing.formats import Case, Format, make_case
from fuzzing.mutations import json_text, mutate, mutate_value
from fuzzing.trial import run_trial
from hpcembed.runtime.errors import InputError

ROOT = Path(__file__).parents[1]


def format_of(read, truth=None) -> Format:
    return Format("test", lambda rng: ({"a.txt": b"content 12"}, truth), read)


def verdict(read, tmp_path, **case):
    files = {"a.txt": b"content"}
    return run_trial(format_of(read), Case(files, **{"is_valid": False, **case}), tmp_path).verdict


def raises(text):
    def read(folder):
        raise InputError(text.format(folder=folder))

    return read


def writes_outside(folder):
    (folder / "b.txt").write_text("x")


def writes_inside(folder):
    (folder / "out" / "b.txt").write_text("x")


BROKEN = {
    "read": (lambda folder: 1, "read"),
    "refused": (raises("{folder}/a.txt: not a table"), "refused"),
    "key": (raises("data.format: not known"), "refused"),
    "no file": (raises("this is not a table"), "message"),
    "too short": (raises("a.txt"), "message"),
    "memory": (raises("a.txt: out of memory: 3 GiB"), "over-allocation"),
    "traceback": (lambda folder: {}["x"], "traceback"),
    "allocation": (lambda folder: np.zeros(2**45), "over-allocation"),
    "warning": (lambda folder: np.array([1.0]) / np.zeros(1), "traceback"),
    "writes": (writes_outside, "outside"),
    "writes inside": (writes_inside, "read"),
    "removes": (lambda folder: (folder / "a.txt").unlink(), "outside"),
    "process": (lambda folder: subprocess.run(["true"]), "outside"),
    "pickle": (lambda folder: pickle.loads(pickle.dumps(os.getcwd)), "outside"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_verdicts(name, tmp_path):
    read, expected = BROKEN[name]
    assert verdict(read, tmp_path) == expected


def test_valid_files_must_be_read_right(tmp_path):
    case = {"is_valid": True, "truth": (np.ones(2), ["a"])}
    assert verdict(lambda folder: (np.ones(2), ["a"]), tmp_path, **case) == "read"
    for other in ((np.ones(3), ["a"]), (np.zeros(2), ["a"]), (np.ones(2), ["b"]), None):
        assert verdict(lambda folder, other=other: other, tmp_path, **case) == "wrong value"
    assert verdict(raises("a.txt: not a table"), tmp_path, **case) == "wrong value"


def hangs(folder):
    if (folder / "a.txt").read_bytes() != b"content 12":
        while True:
            time.process_time()


def dies(folder):
    if (folder / "a.txt").read_bytes() != b"content 12":
        os.abort()


def allocates(folder):
    if (folder / "a.txt").read_bytes() != b"content 12":
        return len(bytearray(2**28))
    return 0


@pytest.mark.parametrize(
    ("read", "expected"), [(hangs, "hang"), (dies, "crash"), (allocates, "over-allocation")]
)
def test_limits_of_workers(read, expected):
    limits = Limits(memory=2**26, seconds=0.5)
    outcomes = dict(run_chunk(format_of(read), range(3), limits))
    assert list(outcomes) == [0, 1, 2]
    valid = [seed for seed in outcomes if make_case(format_of(read), seed).is_valid]
    for seed, outcome in outcomes.items():
        assert outcome.verdict == ("read" if seed in valid else expected), outcome


def test_inputs_are_functions_of_their_seed():
    format = format_of(lambda folder: None)
    assert make_case(format, 5) == make_case(format, 5)
    assert len({make_case(format, seed).files["a.txt"] for seed in range(50)}) > 30


def test_mutations_change_bytes_and_documents():
    rng = np.random.default_rng(0)
    content = b"name,value\n" + b"a,1.5\n" * 40
    changed = [mutate(rng, content) for _ in range(200)]
    assert len(set(changed) - {content}) > 150
    assert max(map(len, changed)) <= 2**18
    document = {"a": [1, {"b": "text"}], "c": None, "d": 2.5}
    texts = {json_text(mutate_value(rng, document)) for _ in range(3000)}
    assert len(texts) > 100
    assert any(b"[[[" in text for text in texts)
    assert json.loads(json_text(document)) == document


@pytest.mark.slow
def test_the_command_repeats_an_input_and_makes_a_table(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py")]
    log = tmp_path / "log.jsonl"
    options = ["--formats", "ratings", "--inputs", "5", "--log", str(log)]
    log.write_text('{"format": "ratings", "seed": 0, "verdict": "read", "seconds": 0.5}\n')
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert len(log.read_text().splitlines()) == 5  # the input in the log is not read again
    assert "| ratings | 5 |" in done.stdout
    again = [*command, "--repeat", "3", "ratings", "--save", str(tmp_path / "saved")]
    done = subprocess.run(again, capture_output=True, text=True, check=True)
    assert "a.csv: " in done.stdout
    assert (tmp_path / "saved" / "a.csv").exists()
