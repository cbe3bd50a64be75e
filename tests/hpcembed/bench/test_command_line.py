"""The command ``hpcembed bench pca``, and its catalogue of methods."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse

from hpcembed import bench
from hpcembed.bench import methods
from hpcembed.bench.methods import METHODS, select
from hpcembed.cli import main
from hpcembed.runtime.errors import ConfigError
from miramns.bench.harness.root_rank import BenchError


@pytest.mark.slow
def test_the_command_writes_its_files(tmp_path, capsys):
    folder = tmp_path / "out"
    words = ["--data", "generated:150x40", "sparse:120x40:5:float64", "--k", "2", "--repeats", "1"]
    words += ["--methods", "hpcembed", "xtx", "sklearn-*", "torch-*", "scipy-eigsh", "slepc-*"]
    words += ["--threads", "1", "--no-memory", "--out", str(folder)]
    assert main(["bench", "pca", *words]) == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "records.jsonl", "records.csv", "table.md", "environment.json", "fit.png", "fit.svg",
    }  # fmt: skip
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    status = {(row["problem"].split(":")[0], row["method"]): row["status"] for row in rows}
    assert status["generated", "hpcembed"] == status["sparse", "hpcembed"] == "exact"
    assert "wrong" not in status.values()
    assert "refused" not in status.values()
    for method in ("sklearn-cov-eigh", "torch-cov-eigh", "scipy-eigsh", "slepc-svd-cross"):
        assert status["generated", method] == "exact"
    assert status["generated", "torch-lowrank"] == "approximate"
    assert status["sparse", "torch-lowrank"] == "unfit"
    out = capsys.readouterr().out
    assert "computing the reference" in out
    assert f"results in {folder}" in out
    assert main(["bench", "pca", *words]) == 2  # never over other results
    assert "contains results already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data", "iris"], "--data iris"),
        (["--methods", "magic"], "method 'magic' is not one of hpcembed, "),
        (["--k", "0"], "positive whole number"),
        (["--limit", "-1"], "positive number"),
        (["--unknown"], "unrecognized arguments: --unknown"),
        (["--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
    ],
)
def test_bad_arguments_are_one_line(words, expected, tmp_path, capsys):
    assert main(["bench", "pca", *words, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1
    assert err.startswith("hpcembed: error: ")


def test_list_and_help(capsys):
    assert main(["bench", "pca", "--list"]) == 0
    out = capsys.readouterr().out
    assert "hpcembed-block" in out
    assert "generated:NxD" in out
    assert main(["bench", "pca", "--help"]) == 0
    assert "--data-dir" in capsys.readouterr().out


def test_more_ranks_are_refused():
    class Two:
        size = 2

    with pytest.raises(ConfigError, match="without mpiexec"):
        bench.main([], Two())


def test_the_catalogue_has_the_code_of_every_method(monkeypatch):
    assert {one.name for one in METHODS if not one.needs} <= {one.name for one in select([])}
    for one in METHODS:
        if one.needs != "torch":  # loaded in the test of the command
            assert callable(one.load())
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(BenchError, match="heat is not installed"):
        select(["heat-full"])


def test_methods_that_do_not_apply_are_not_run():
    tall, wide = np.zeros((50, 9)), np.zeros((9, 50))
    why = {one.name: one.unfit(tall, 3, 10**9) for one in METHODS}
    assert why["hpcembed-gram"] == "for wide rows"
    assert not any(text for name, text in why.items() if name != "hpcembed-gram")
    assert not any(one.unfit(wide, 3, 10**9) for one in METHODS)
    assert all(one.unfit(tall, 9, 10**9) for one in METHODS)
    by_name = {one.name: one for one in METHODS}
    assert "copies" in by_name["slepc-svd-cross"].unfit(tall, 3, 10)
    assert "20000 x 20000" in by_name["xtx"].unfit(weightless(20_000), 3, 10**9)
    sparse = scipy.sparse.csr_matrix(tall)
    assert by_name["torch-lowrank"].unfit(sparse, 3, 10**9) == "dense rows only"
    assert not by_name["sklearn-arpack"].unfit(sparse, 3, 10**9)


def weightless(d):
    """Return rows that take no memory."""
    return np.broadcast_to(np.float32(0), (d, d))
