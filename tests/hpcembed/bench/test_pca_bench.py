"""The benchmark of PCAs: its tables, its optimum, its judgement, and what it writes. No times."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from hpcembed import bench
from hpcembed.bench import methods, truth
from hpcembed.bench.child import Outcome, environment, run_apart
from hpcembed.bench.data_sets import load, parse
from hpcembed.bench.figures import draw
from hpcembed.bench.judging import EXACT, Answer, measure, verdict
from hpcembed.bench.methods import METHODS, Fitted, Method, select
from hpcembed.bench.records import Record, append_json, write_csv
from hpcembed.bench.running import Settings, run_table
from hpcembed.bench.tables import fastest_exact_peer, markdown
from hpcembed.bench.truth import Covariance, reference_of
from hpcembed.cli import main
from hpcembed.runtime.errors import ConfigError, InputError

HERE = Path()


# -------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "word",
    [
        "iris", "mnist:2", "generated", "generated:10", "generated:1x5", "generated:9x0",
        "generated:9x5:half", "generated:9x5:geometric2", "sparse:9x5", "sparse:9x5:2:power1",
    ],
)  # fmt: skip
def test_unknown_tables_are_named(word):
    with pytest.raises(ConfigError, match=f"--data {word}"):
        parse(word)


def test_generated_rows_have_the_stated_spectrum():
    data = parse("generated:4000x60:float64:power1.5")
    rows = load(data, HERE, 3)
    assert rows.shape == (4000, 60)
    assert rows.dtype == np.float64
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    planted = np.arange(1, 31) ** -1.5
    noise = 0.1 * planted.sum() / 60
    np.testing.assert_allclose(values[:8], planted[:8] + noise, rtol=0.1)
    assert np.linalg.norm(rows.mean(axis=0)) > 0.5  # centring matters
    np.testing.assert_array_equal(rows, load(data, HERE, 3))
    assert not np.array_equal(rows, load(data, HERE, 4))


def test_spectrum_and_type_are_read_from_the_word():
    rows = load(parse("generated:3000x40:geometric0.5"), HERE, 0)
    assert rows.dtype == np.float32
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    np.testing.assert_allclose(values[1:4] / values[:3], 0.5, rtol=0.1)


def test_sparse_rows_are_as_asked_for():
    data = parse("sparse:500x300:7:float64")
    rows = load(data, HERE, 1)
    assert scipy.sparse.issparse(rows)
    assert rows.dtype == np.float64
    assert rows.shape == (500, 300)
    assert 0.8 * 3500 < rows.nnz <= 3500  # some fall on the same place
    assert rows.data.min() >= 0.5
    counts = np.sort(rows.getnnz(axis=0))[::-1]
    assert counts[0] > 4 * counts[150]
    assert (rows != load(data, HERE, 1)).nnz == 0


def test_digits_are_there_without_files():
    rows = load(parse("digits"), HERE, 0)
    assert rows.shape == (1797, 64)
    assert rows.dtype == np.float32
    assert rows.max() == 1


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load(parse("mnist"), tmp_path, 0)


# ------------------------------------------------------------------------------------- optimum


@pytest.mark.parametrize("word", ["generated:90x12:float64", "sparse:90x12:4", "generated:9x30"])
def test_products_are_those_of_the_covariance(word):
    rows = load(parse(word), HERE, 0)
    whole = rows.toarray() if scipy.sparse.issparse(rows) else rows
    expected = np.cov(whole.T.astype(np.float64))
    C = Covariance(rows)
    V = np.random.default_rng(0).standard_normal((C.d, 3))
    np.testing.assert_allclose(C.times(V), expected @ V, atol=1e-13)
    np.testing.assert_allclose(C.dense(), expected, atol=1e-13)
    np.testing.assert_allclose(C.total, np.trace(expected), rtol=1e-12)


@pytest.mark.parametrize("word", ["generated:40x200:float64", "sparse:60x150:9"])
def test_the_optimum_is_the_same_three_ways(word):
    C = Covariance(load(parse(word), HERE, 0))
    ways = [reference_of(C, 4, largest_dense=size) for size in (1000, 100, 10)]
    assert [way.source.split(" ")[0] for way in ways] == ["LAPACK", "LAPACK", "hpcembed"]
    assert "Gram" in ways[1].source
    for way in ways[1:]:
        np.testing.assert_allclose(way.values, ways[0].values, rtol=1e-9)
        np.testing.assert_allclose(np.abs(np.sum(way.vectors * ways[0].vectors, axis=0)), 1)
    assert ways[0].first(2).vectors.shape == (C.d, 2)


def test_the_second_look_finds_what_was_left_out(monkeypatch):
    C = Covariance(load(parse("generated:80x50:float64"), HERE, 0))
    V = reference_of(C, 4).vectors

    class Incomplete:
        def __init__(self, *_arguments, **_settings):
            self.components_ = V[:, 1:].T

        def fit(self, _rows):
            return self

    monkeypatch.setattr(truth, "PCA", Incomplete)
    with pytest.raises(InputError, match="left out"):
        reference_of(C, 3, largest_dense=10)


def test_more_components_than_there_are_is_refused():
    with pytest.raises(InputError, match="--k 9"):
        reference_of(Covariance(np.eye(9, 20)), 9)


# ----------------------------------------------------------------------------------- judgement


@pytest.fixture
def case():
    """Covariance, optimum, and the answer that it is."""
    C = Covariance(load(parse("generated:200x30:float64"), HERE, 0))
    reference = reference_of(C, 3)
    V = reference.vectors
    return C, reference, Answer(V.T, reference.values, (C.rows - C.mean) @ V, certified=1e-10)


def judged(case, **changes):
    C, reference, answer = case
    answer = replace(answer, **changes)
    measured = measure(C, answer, reference)
    return (*verdict(measured, answer, 3), measured)


def test_the_optimum_is_exact(case):
    status, why, measured = judged(case)
    assert (status, why) == ("exact", "")
    assert abs(measured.deficit) < 1e-14
    assert measured.sin_angle < 1e-7
    assert measured.residual < 1e-13
    assert measured.orthogonality < 1e-13


def turned(case, angle):
    """The answer with its last direction turned into the complement of the others."""
    C, reference, _ = case
    _, vectors = np.linalg.eigh(C.dense())
    last = np.cos(angle) * reference.vectors[:, 2] + np.sin(angle) * vectors[:, 0]
    V = np.column_stack([reference.vectors[:, :2], last])
    return {
        "components": V.T,
        "coordinates": (C.rows - C.mean) @ V,
        "variances": np.sum(V * C.times(V), axis=0),
        "certified": None,
    }


def test_what_captures_less_is_approximate(case):
    C, reference, _ = case
    changes = turned(case, 0.02)
    status, why, measured = judged(case, **changes)
    assert (status, why) == ("approximate", "")
    captured = changes["variances"].sum() / reference.values.sum()
    assert captured < EXACT
    np.testing.assert_allclose(1 - measured.deficit, captured, rtol=1e-13)
    np.testing.assert_allclose(measured.sin_angle, np.sin(0.02), rtol=1e-10)
    gap = reference.values[2] - np.linalg.eigvalsh(C.dense())[0]
    expected = np.sin(0.02) * np.cos(0.02) * gap / reference.values[0]
    np.testing.assert_allclose(measured.residual, expected, rtol=1e-9)
    assert judged(case, **turned(case, 1e-5))[0] == "exact"


def test_what_claims_more_than_it_has_is_wrong(case):
    status, why, _ = judged(case, **turned(case, 1e-5) | {"certified": 1e-10})
    assert status == "wrong"
    assert "certified 1e-10" in why


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"components": a.components[:2]}, "2 of 3"),
        (lambda a: {"components": a.components[:, 1:]}, "0 of 3"),
        (lambda a: {"coordinates": a.coordinates[1:]}, "0 of 3"),
        (lambda a: {"components": a.components * np.nan}, "not finite"),
        (lambda a: {"variances": a.variances * np.inf}, "not finite"),
        (lambda a: {"components": a.components * 2}, "orthogonality"),
        (lambda a: {"components": a.components[[0, 0, 1]]}, "orthogonality"),
        (lambda a: {"components": np.eye(30)[:3], "variances": None}, "captures"),
        (lambda a: {"variances": a.variances * 2}, "variances off"),
        (lambda a: {"coordinates": a.coordinates + 1}, "coordinates off"),
        (lambda a: {"coordinates": a.coordinates * np.nan}, "coordinates off"),
        (lambda a: {"centred": False}, "coordinates off"),
    ],
)
def test_wrong_answers_are_wrong(case, change, words):
    status, why, _ = judged(case, **change(case[2]))
    assert status == "wrong"
    assert words in why


def test_variances_need_not_be_told(case):
    status, _, measured = judged(case, variances=None)
    assert status == "exact"
    assert measured.residual < 1e-13


# ------------------------------------------------------------------------------------- running


class Fake(Method):
    """A method whose code is in the test."""

    def load(self):
        return FAKES[self.name]


def optimal(task):
    reference = reference_of(Covariance(task.rows), task.k)
    mean, V = task.rows.mean(axis=0), reference.vectors
    return Fitted(lambda rows: (rows - mean) @ V, V.T, reference.values, detail="by the book")


def coarse(task):
    good = optimal(task)
    V = np.linalg.qr(good.components.T + 1e-2)[0]
    mean = task.rows.mean(axis=0)
    return Fitted(lambda rows: (rows - mean) @ V, V.T)


def doubled(task):
    good = optimal(task)
    return replace(good, variances=2 * good.variances)


def broken(_task):
    raise ValueError("no\n  such luck")


FAKES = {
    "good": optimal,
    "coarse": coarse,
    "doubled": doubled,
    "broken": broken,
    "bare": lambda task: Fitted(None, None),
}
GROUPS = {"good": "ours", "bare": "bound"}


@pytest.fixture
def records():
    fakes = [Fake(name, "", "nowhere", GROUPS.get(name, "peer")) for name in FAKES]
    fakes.append(Fake("fits-not", "", "nowhere", needs="", doubles=10**9))
    said, reported = [], []
    settings = Settings(ks=[2, 3], threads=1, repeats=2, limit=60, memory=False, pause=0)
    found = run_table(
        parse("generated:60x20:float64"), fakes, settings, reported.append, said.append
    )
    assert said
    assert {id(one) for one in reported} == {id(one) for one in found}
    return found


def test_every_method_is_judged_and_the_right_ones_are_timed(records):
    assert [one.k for one in records] == [2] * 6 + [3] * 6
    by_name = {one.method: one for one in records if one.k == 3}
    status = {name: one.status for name, one in by_name.items()}
    assert status == {
        "good": "exact", "coarse": "approximate", "doubled": "wrong", "broken": "refused",
        "bare": "bound", "fits-not": "unfit",
    }  # fmt: skip
    assert by_name["broken"].why == "such luck"
    assert by_name["coarse"].why == "tells no variances"
    assert by_name["good"].detail == "by the book"
    assert (by_name["good"].n, by_name["good"].d, by_name["good"].data_bytes) == (60, 20, 9600)
    for name, one in by_name.items():
        timed = name in ("good", "coarse", "bare")
        assert (one.fit_s is not None) is timed
        assert len(one.fit_repeats_s) == (2 if timed else 0)
        assert (one.transform_s is not None) is (name in ("good", "coarse"))


def test_what_takes_too_long_is_not_repeated():
    settings = Settings(ks=[2], threads=1, repeats=1, limit=1e-9, memory=False, pause=0)
    quiet = [].append
    (one,) = run_table(
        parse("generated:60x20"), [Fake("good", "", "nowhere")], settings, quiet, quiet
    )
    assert one.status == "limit"
    assert one.fit_s is None
    assert "more than 1e-09 s" in one.why


def test_files_agree(records, tmp_path):
    append_json(tmp_path / "records.jsonl", records)
    write_csv(tmp_path / "records.csv", records)
    text = markdown(records, {"cores": 2})
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    with (tmp_path / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(lines) == len(rows) == len(records)
    for line, row, one in zip(lines, rows, records, strict=True):
        assert line["method"] == row["method"] == one.method
        assert line["status"] == row["status"] == one.status
        assert line["fit_s"] == one.fit_s
        assert row["fit_s"] == ("" if one.fit_s is None else str(one.fit_s))
        assert line["fit_repeats_s"] == one.fit_repeats_s
        if one.status == "unfit":
            assert f"{one.method} ({one.why})" in text
            continue
        shown = next(cells for cells in table_rows(text, one.k) if cells[0] == one.method)
        assert shown[1] == ("-" if one.fit_s is None else f"{one.fit_s:.3g}")
        finite = one.deficit is not None and np.isfinite(one.deficit)
        assert shown[3] == (f"{one.deficit:.1e}" if finite else "-")
        assert shown[-1].startswith(one.status)
    assert "* cores: 2" in text


def table_rows(text, k):
    section = text.split(f", k = {k}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("| ")
    ]


def test_ratios_are_to_the_fastest_exact_peer():
    common = {"data": "x", "n": 9, "d": 5, "dtype": "float32", "nonzeros": None, "threads": 1}
    common |= {"data_bytes": 180, "k": 2}
    timed = [
        ("ours", "ours", "exact", 3.0),
        ("quick", "peer", "approximate", 1.0),
        ("lying", "peer", "wrong", None),
        ("slow", "peer", "exact", 6.0),
        ("slower", "peer", "exact", 12.0),
        ("xtx", "bound", "bound", 2.0),
    ]
    records = [
        Record(**common, method=name, group=group, status=status, fit_s=seconds)
        for name, group, status, seconds in timed
    ]
    peer = fastest_exact_peer(records)
    assert peer is not None
    assert peer.method == "slow"
    assert "| x | 2 | 3 | slow | 6 | 0.50 | 1.50 |" in markdown(records, {})
    records[0].status = "approximate"  # is not compared with what is exact
    assert "| x | 2 | 3 | slow | 6 | - | - |" in markdown(records, {})


def test_nothing_timed_gives_no_picture(tmp_path, records):
    assert not draw(tmp_path, [one for one in records if not one.timed])
    assert draw(tmp_path, records)
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "fit.svg").read_text()


# --------------------------------------------------------------------------------- in a process


def order(**changes):
    usual = {"data": "generated:400x50", "data_dir": ".", "method": "ours", "k": 3}
    return usual | {"threads": 1, "seed": 0} | changes


def test_memory_is_measured_apart():
    # two copies of 3 MB in double, made by the method
    big = order(data="generated:4000x100", method="slepc-svd-cross")
    outcome = run_apart(big, 60)
    assert outcome.status == "ok", outcome
    assert outcome.peak_bytes is None or 3e6 < outcome.peak_bytes < 3e8


def test_a_process_that_takes_too_long_is_ended():
    long = order(data="generated:3000x300", method="ours-matrix-free", k=40)
    assert run_apart(long, 0.001) == Outcome("limit", "more than 0.001 s")


def test_a_process_tells_why_there_is_no_answer():
    outcome = run_apart(order(k=51), 60)
    assert outcome.status == "refused"
    assert "50 features" in outcome.why
    outcome = run_apart(order(data="nothing"), 60)
    assert outcome.status == "refused"
    assert "--data nothing" in outcome.why


def test_a_process_belongs_to_no_job(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    found = environment(3)
    assert "OMPI_COMM_WORLD_SIZE" not in found
    assert "OMPI_ALLOW_RUN_AS_ROOT" in found
    assert found["OMP_NUM_THREADS"] == "3"


# ------------------------------------------------------------------------------------- command


def test_the_command_leaves_its_files(tmp_path, capsys):
    folder = tmp_path / "out"
    words = ["--data", "generated:150x40", "sparse:120x40:5:float64", "--k", "2", "--repeats", "1"]
    words += ["--methods", "ours", "xtx", "sklearn-*", "torch-*", "scipy-eigsh", "slepc-*"]
    words += ["--threads", "1", "--no-memory", "--out", str(folder)]
    assert main(["bench", "pca", *words]) == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "records.jsonl", "records.csv", "table.md", "environment.json", "fit.png", "fit.svg",
    }  # fmt: skip
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    status = {(row["data"].split(":")[0], row["method"]): row["status"] for row in rows}
    assert status["generated", "ours"] == status["sparse", "ours"] == "exact"
    assert "wrong" not in status.values()
    assert "refused" not in status.values()
    for method in ("sklearn-cov-eigh", "torch-cov-eigh", "scipy-eigsh", "slepc-svd-cross"):
        assert status["generated", method] == "exact"
    assert status["generated", "torch-lowrank"] == "approximate"
    assert status["sparse", "torch-lowrank"] == "unfit"
    out = capsys.readouterr().out
    assert "finding the optimum" in out
    assert f"results in {folder}" in out
    assert main(["bench", "pca", *words]) == 2  # never over results that are there
    assert "holds results already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data", "iris"], "--data iris"),
        (["--methods", "magic"], "--methods magic: no such method"),
        (["--k", "0"], "positive whole number"),
        (["--limit", "-1"], "positive number"),
        (["--unknown"], "unrecognized arguments: --unknown"),
        (["--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words, expected, tmp_path, capsys):
    assert main(["bench", "pca", *words, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1
    assert err.startswith("hpcembed: error: ")


def test_list_and_help(capsys):
    assert main(["bench", "pca", "--list"]) == 0
    out = capsys.readouterr().out
    assert "ours-block" in out
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
    with pytest.raises(ConfigError, match="heat is not installed"):
        select(["heat-full"])


def test_what_does_not_suit_is_left_alone():
    tall, wide = np.zeros((50, 9)), np.zeros((9, 50))
    why = {one.name: one.unfit(tall, 3, 10**9) for one in METHODS}
    assert why["ours-gram"] == "for wide rows"
    assert not any(text for name, text in why.items() if name != "ours-gram")
    assert not any(one.unfit(wide, 3, 10**9) for one in METHODS)
    assert all(one.unfit(tall, 9, 10**9) for one in METHODS)
    by_name = {one.name: one for one in METHODS}
    assert "copies" in by_name["slepc-svd-cross"].unfit(tall, 3, 10)
    assert "20000 x 20000" in by_name["xtx"].unfit(weightless(20_000), 3, 10**9)
    sparse = scipy.sparse.csr_matrix(tall)
    assert by_name["torch-lowrank"].unfit(sparse, 3, 10**9) == "dense rows only"
    assert not by_name["sklearn-arpack"].unfit(sparse, 3, 10**9)


def weightless(d):
    """Rows that take no memory."""
    return np.broadcast_to(np.float32(0), (d, d))
