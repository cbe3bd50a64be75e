"""The command ``python -m miramns.bench``: its files, its messages, its help."""

from __future__ import annotations

import csv
import json

import pytest

from miramns import bench
from miramns.bench import methods
from miramns.bench.problems import catalogue

mpi = pytest.mark.mpi


@pytest.mark.slow
@mpi
def test_a_run_writes_all_files(comm, shared_tmp, capsys):
    pytest.importorskip("matplotlib")
    out = shared_tmp / "out"
    words = [
        "--quick", "--problems", "laplacian-2d:nx=8,ny=7", "random-walk:side=8",
        "--k", "2,3", "--limit", "60", "--out", str(out),
    ]  # fmt: skip
    assert bench.main(words, comm) == 0
    comm.barrier()
    text = capsys.readouterr().out
    lines = (out / "records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    keys = {(one["problem"], one["method"], one["k"]) for one in records}
    assert len(keys) == len(records)
    assert {one["problem"] for one in records} == {"laplacian 8x7", "random walk 36"}
    for one in records:
        assert one["ranks"] == comm.size
        assert one["product_s"] > 0
        assert one["n"] in (56, 36)
        if one["status"] == "ok" and one["timed"]:
            assert one["seconds"] > 0
            assert one["n_matvec"] > 0
        else:
            assert one["seconds"] is None
    with (out / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == [one["method"] for one in records]
    tables = (out / "tables.md").read_text()
    assert "## laplacian 8x7, k = 2" in tables
    assert "Geometric means" in tables
    assert json.loads((out / "environment.json").read_text())["ranks"] == comm.size
    pictures = ["profile-products", "profile-seconds"]
    pictures += [f"course-{name}-k{k}" for name in ("laplacian-8x7", "random-walk-36")
                 for k in (2, 3)]  # fmt: skip
    for name in pictures:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    if comm.rank == 0:
        assert "miramns" in text
        assert "products" in text
        assert "results in" in text
    assert bench.main(words, comm) == 2  # never over other results
    assert "contains results already" in capsys.readouterr().err or comm.rank


@mpi
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--k", "0"], "argument --k: need a positive whole number, got '0'"),
        (["--k", "2,x"], "argument --k: need a positive whole number, got 'x'"),
        (["--tol", "1"], "argument --tol: need a number between 0 and 1, got '1'"),
        (["--limit", "nan"], "argument --limit: need a positive number, got 'nan'"),
        (["--repeats", "-1"], "argument --repeats: "),
        (["--which", "SM"], "argument --which: invalid choice: 'SM'"),
        (["--methods", "magic"], "method 'magic' is not one of miramns"),
        (["--problems", "magic"], "problem 'magic' is not one of laplacian-1d"),
        (["--matrix", "absent.mtx"], "absent.mtx: not a Matrix Market file"),
        (["--data-dir", "absent"], "no .mtx or .mtx.gz file in absent"),
        (["--magic"], "unrecognized arguments: --magic"),
        (["--quick", "--out", "/dev/null/x"], "--out /dev/null/x: Not a directory"),
    ],
)
def test_bad_arguments_are_one_line(comm, capsys, words, message):
    assert bench.main(words, comm) == 2
    said = capsys.readouterr()
    assert said.out == ""
    if comm.rank == 0:
        assert said.err.startswith("miramns.bench: error: ")
        assert message in said.err
        assert said.err.count("\n") == 1
    else:
        assert said.err == ""


@mpi
def test_list_and_help(comm, capsys):
    assert bench.main(["--list"], comm) == 0
    text = capsys.readouterr().out
    assert bench.main(["--help"], comm) == 0
    usage = capsys.readouterr().out
    if comm.rank:
        assert (text, usage) == ("", "")
        return
    assert "--data-dir" in usage
    for name in (*catalogue.GENERATORS, *catalogue.PRESETS):
        assert f"  {name} " in text
    for method in methods.available():
        assert f"  {method.name} " in text


@pytest.mark.launch
def test_hpcembed_bench_eigensolvers_passes_its_arguments_on(run_mpi):
    finished = run_mpi(0, "-m", "hpcembed", "bench", "eigensolvers", "--k", "0")
    assert finished.status == 2
    assert (
        finished.err
        == "miramns.bench: error: argument --k: need a positive whole number, got '0'\n"
    )
    words = ["--quick", "--problems", "laplacian-1d:n=60", "--methods", "ks"]
    words += ["--no-figures", "--out", "out"]
    finished = run_mpi(2, "-m", "hpcembed", "bench", "eigensolvers", *words)
    assert finished.status == 0, finished.err
    assert "ks" in finished.out
    assert "products" in finished.out
    assert run_mpi(0, "-m", "miramns.bench", "--list").status == 0
