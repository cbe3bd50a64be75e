"""Diagnostics of the dimension in runs and studies: records, terminal, report, on 1 to 3 ranks."""

import json
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from mpi4py import MPI
from sklearn.datasets import load_digits

from hpcembed.embedding import PCA, Spectrum
from hpcembed.embedding.diagnostics import intrinsic_dimension, spectrum_measures, suggested_sizes
from hpcembed.jobs.configuration import DiagnosticsConfig, EmbeddingConfig, JobConfig
from hpcembed.jobs.dimensions import RUN_WORK, STUDY_WORK, affordable, measure_dimensions
from hpcembed.jobs.report.run_json import RunRecord
from hpcembed.runtime.ranks import ownership_range
from job_files import JOBS, WITHOUT_NETWORKS, settings

STUDY = """
[data]
name = "digits"
format = "digits"
[study]
dimensions = [2, 9]
networks = [[8]]
seeds = 2
margin = 50.0
[training]
epochs = 2
"""


def commands(folder, ranks):
    path = folder / "study.toml"
    path.write_text(STUDY)
    run = ["run", JOBS / "digits.toml", *WITHOUT_NETWORKS]
    small = settings("diagnostics.rows=700", "diagnostics.n_neighbours=5", "diagnostics.seed=2")
    none = settings("diagnostics.enabled=false")
    jobs = [[*run, *small, "--out", f"rows-{ranks}"]]
    if ranks == 1:
        jobs += [[*run, *none, "--out", "none"], ["study", path, "--out", "study"]]
    return jobs


@pytest.mark.launch(commands, ranks=(1, 2, 3))
def test_runs_and_studies(launched):
    found = []
    for ranks in (1, 2, 3):
        done = launched[ranks][0]
        assert done.status == 0, done.err
        run = json.loads((launched.folder / f"rows-{ranks}" / "run.json").read_text())
        found.append(run["dimensions"])
        assert "\ndimensions: effective rank " in f"\n{done.out}"
        assert " (MLE), " in done.out
        assert ", diagnostics " in done.out
    intrinsic = found[0]["intrinsic"]
    assert (intrinsic["n_queries"], intrinsic["n_rows"], intrinsic["n_all_rows"]) == (
        700, 1438, 1438,
    )  # fmt: skip
    assert (intrinsic["n_neighbours"], intrinsic["n_columns"]) == (5, 20)
    for other in found[1:]:
        for name in ("effective_rank", "entropy", "participation_ratio", "stable_rank"):
            assert other["spectrum"][name] == pytest.approx(found[0]["spectrum"][name], rel=1e-9)
        for name in ("mle", "two_nn"):
            one, two = other["intrinsic"][name], intrinsic[name]
            assert one["value"] == pytest.approx(two["value"], rel=1e-4)
            assert one["halves"] == pytest.approx(two["halves"], rel=1e-4)
    _, without, study = launched[1]
    assert without.status == study.status == 0, study.err
    assert "dimensions:" not in without.out
    assert "diagnostics" not in without.out
    folder = launched.folder
    assert json.loads((folder / "none" / "run.json").read_text())["dimensions"] is None
    assert "dimensions: effective rank" in study.out
    text, page = (folder / "study" / "study.md").read_text(), folder / "study" / "report.html"
    assert "## How many dimensions?" in text
    assert "| smallest k without loss " in text
    assert "How many dimensions?</h2>" in page.read_text()
    record = json.loads((folder / "study" / "study.json").read_text())["dimensions"]
    assert record["intrinsic"]["n_queries"] == record["intrinsic"]["n_all_rows"] == 1438
    assert record["spectrum"]["n_known"] == 9


def job_of(comm, method="pca", **diagnostics):
    config = JobConfig(
        embedding=EmbeddingConfig(method=method), diagnostics=DiagnosticsConfig(**diagnostics)
    )
    lines = []
    return SimpleNamespace(config=config, comm=comm, log=lines.append, lines=lines, seconds={})


ROWS = load_digits().data


@pytest.fixture(name="pca", scope="module")
def fitted():
    return PCA(30).fit(ROWS, comm=MPI.COMM_SELF)


@pytest.mark.mpi
def test_the_record_holds_the_public_functions(comm, pca):
    rows = pca.transform(ROWS)
    first, last = ownership_range(len(rows), comm)
    job = job_of(comm)
    found = measure_dimensions(job, pca, rows[first:last], RUN_WORK)
    assert job.seconds == {"diagnostics": found.seconds}
    values, trace = pca.eigenvalues_, ROWS.var(axis=0, ddof=1).sum()
    measures = spectrum_measures(values, trace, 64)
    for name in ("entropy", "effective_rank", "participation_ratio", "stable_rank"):
        one, expected = getattr(found.spectrum, name), getattr(measures, name)
        assert (one.low, one.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert (found.spectrum.n_known, found.spectrum.n_possible) == (30, 64)
    sizes = suggested_sizes(values, *ROWS.shape, trace=trace)
    for one, expected in zip(found.suggested_sizes, sizes, strict=True):
        assert (one.method, one.size) == (expected.method, expected.size)
        assert (one.at_least, one.noise, one.reason) == (
            expected.at_least, expected.noise, expected.reason,
        )  # fmt: skip
        assert one.threshold == pytest.approx(expected.threshold, nan_ok=True)
        assert one.noise_variance == pytest.approx(expected.noise_variance, nan_ok=True)
    alone = intrinsic_dimension(rows)
    for name in ("mle", "two_nn"):
        one, expected = getattr(found.intrinsic, name), getattr(alone, name)
        assert one.value == pytest.approx(expected.value, rel=1e-9)
        assert one.standard_error == pytest.approx(expected.standard_error, rel=1e-6)
        assert one.halves == pytest.approx(expected.halves, rel=1e-9)
    assert found.intrinsic.n_duplicates == 0
    assert 0 < found.intrinsic.seconds <= found.seconds


def test_work_bounds_the_pairs_of_rows(pca):
    rows = pca.transform(ROWS)
    found = measure_dimensions(job_of(MPI.COMM_SELF), pca, rows, 900 * 1797 * 94)
    assert (found.intrinsic.n_queries, found.intrinsic.n_rows) == (1271, 1271)  # few pairs
    found = measure_dimensions(job_of(MPI.COMM_SELF), pca, rows, 1797 * 1797 * 94)
    assert (found.intrinsic.n_queries, found.intrinsic.n_rows) == (1797, 1797)
    for work in (RUN_WORK, STUDY_WORK):
        for n_rows in (300, 5000, 60_000, 10**8):
            queries, rows_of = affordable(work, n_rows, 50)
            assert queries * rows_of * 114 <= work * (1 + 1e-9)
            assert 300 <= queries <= rows_of <= n_rows
            assert queries >= min(2000, n_rows)
    few = measure_dimensions(job_of(MPI.COMM_SELF), pca, pca.transform(ROWS)[:150], 1e9)
    assert few.intrinsic is None
    assert few.spectrum is not None


@pytest.mark.parametrize(
    ("method", "has_neighbours"),
    [("svd", True), ("kernel_pca", True), ("nystroem", True), ("cooccurrence", False),
     ("spectral", False)],
)  # fmt: skip
def test_methods_without_a_trace(pca, method, has_neighbours):
    rows = pca.transform(ROWS[:250])
    other = SimpleNamespace(
        spectrum_=Spectrum(pca.eigenvalues_, ""), certified_=True, n_features_in_=64
    )
    found = measure_dimensions(job_of(MPI.COMM_SELF, method), other, rows, 1e9)
    if not has_neighbours:
        assert found is None
        return
    assert found.spectrum is None
    assert found.suggested_sizes == []
    assert found.intrinsic.n_rows == 250


def test_diagnostics_that_are_left_out(pca):
    rows = pca.transform(ROWS)
    assert measure_dimensions(job_of(MPI.COMM_SELF, enabled=False), pca, rows, 1e9) is None
    unsure = SimpleNamespace(spectrum_=pca.spectrum_, certified_=False, n_features_in_=64)
    assert measure_dimensions(job_of(MPI.COMM_SELF), unsure, rows, 1e9) is None
    wrong = Spectrum(pca.eigenvalues_, "variance", trace=1.0, rank_limit=64)
    contradicted = SimpleNamespace(spectrum_=wrong, certified_=True, n_features_in_=64)
    job = job_of(MPI.COMM_SELF)
    assert measure_dimensions(job, contradicted, rows, 1e9).spectrum is None
    assert "more than the trace 1" in job.lines[0]


def test_records_are_read_back(pca):
    found = measure_dimensions(job_of(MPI.COMM_SELF), pca, pca.transform(ROWS[:300]), 1e9)
    text = msgspec.json.encode(found)
    read = msgspec.json.decode(text, type=type(found))
    assert read.spectrum == found.spectrum
    assert read.intrinsic.mle.value == found.intrinsic.mle.value
    assert read.suggested_sizes[2].threshold is None  # NaN
    assert "dimensions" in {field.name for field in msgspec.structs.fields(RunRecord)}
    assert np.isfinite(read.seconds)
