"""The methods of a job: every one keeps the contract, and says of itself what is true."""

import dataclasses
import typing
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import Embedding, Machine, Shape, Spectrum, shape_of
from hpcembed.jobs.configuration import (
    EmbeddingConfig,
    JobConfig,
    MethodConfig,
    SolverConfig,
    load_job,
)
from hpcembed.jobs.embedding_methods import METHODS, make_embedding
from hpcembed.jobs.job import describe_job, prepare
from hpcembed.jobs.run import fit, read
from hpcembed.runtime.errors import ConfigError, MemoryLimitError
from hpcembed.runtime.ranks import ownership_range

pytestmark = pytest.mark.mpi

JOBS = Path(__file__).parents[3] / "jobs"
IMAGES = load_digits().data[:400] + 3.0
#: Methods that take any rows; the others have tests of their own.
ON_ROWS = sorted(set(METHODS) - {"spectral", "lda", "cca"})
MACHINE = Machine(ranks=1, threads=1, available_bytes=2**30)


def job_of(method, k=6, **solver):
    return JobConfig(
        embedding=EmbeddingConfig(method=method, n_components=k), solver=SolverConfig(**solver)
    )


@pytest.fixture
def rows(comm):
    first, last = ownership_range(len(IMAGES), comm)
    return DataMatrix(IMAGES[first:last], np.zeros(last - first, np.int64), comm)


def test_every_name_of_the_configuration_is_a_method():
    names = typing.get_args(typing.get_type_hints(MethodConfig)["method"])
    assert sorted(names) == sorted(METHODS)


@pytest.mark.parametrize("method", ON_ROWS)
def test_every_method_keeps_the_contract(rows, method):
    seen = []
    job = job_of(method)
    embedding = make_embedding(job, MACHINE, monitor=seen.append).fit(rows)
    # mypy cannot prove attributes of classes whose bases have no types: here they are looked at.
    assert isinstance(embedding, Embedding)
    k, d = 6, IMAGES.shape[1]
    assert (embedding.n_requested_, embedding.n_features_in_) == (k, d)
    assert embedding.components_name
    assert embedding.operator_
    assert embedding.certified_
    assert len(embedding.result_.eigenvalues) == k
    assert embedding.reference_.solver == "SLEPc krylovschur"
    assert embedding.comparison_.n_pairs == k
    assert embedding.comparison_.max_relative_error <= 1e-9
    assert "did not converge to the tolerance 1e-10" in embedding.failure_text()
    assert embedding.seconds_["operator"] > 0
    assert embedding.seconds_["solve"] > 0
    assert seen
    spectrum = embedding.spectrum_
    assert spectrum.values.shape == (k,)
    np.testing.assert_allclose(spectrum.values, embedding.result_.eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(embedding.feature_means_, IMAGES.mean(axis=0), rtol=1e-12)
    variances = IMAGES.var(axis=0, ddof=1)
    np.testing.assert_allclose(embedding.feature_variances_, variances, atol=1e-10)

    coordinates = embedding.transform(rows)
    assert coordinates.shape == (rows.n_local, k)
    assert embedding.transform(rows, np.float32).dtype == np.float32
    everything = np.concatenate(rows.comm.allgather(coordinates))
    np.testing.assert_allclose(embedding.coordinate_means_, everything.mean(axis=0), atol=1e-9)
    deviations = everything.std(axis=0)
    np.testing.assert_allclose(embedding.coordinate_deviations_, deviations, rtol=2e-3)
    if spectrum.explained_variance_ratio is not None:
        share = everything.var(axis=0, ddof=1) / variances.sum()
        np.testing.assert_allclose(spectrum.explained_variance_ratio, share, rtol=1e-8)
        assert spectrum.unexplained[0] == 1
        np.testing.assert_allclose(spectrum.unexplained[-1], 1 - share.sum(), rtol=1e-8)
    if embedding.linear_map_ is not None:
        linear = embedding.linear_map_
        local = slice(*rows.row_range)
        mapped = (IMAGES[local] - linear.mean) @ linear.components.T
        np.testing.assert_allclose(coordinates, mapped, atol=1e-9)


def test_what_singular_vectors_are_called(rows):
    svd = make_embedding(job_of("svd"), MACHINE).fit(rows)
    mean_squares = (svd.transform(rows) ** 2).sum(axis=0)
    mean_squares = rows.comm.allreduce(mean_squares) / (len(IMAGES) - 1)
    np.testing.assert_allclose(svd.spectrum_.values, mean_squares, rtol=1e-10)
    assert svd.spectrum_.meaning == "mean square"
    assert svd.operator_ == "X'X, assembled"
    assert not svd.linear_map_.mean.any()
    # The images were moved away from the origin: the first vector is their mean, not their spread.
    assert svd.spectrum_.share[0] < svd.spectrum_.share[1]


@pytest.mark.parametrize("method", ON_ROWS)
def test_a_kept_answer_names_its_unconverged_pairs(rows, method):
    job = job_of(method, reference=False, tol=1e-14, max_it=1, ncv=8)
    embedding = make_embedding(job, MACHINE).fit(rows)
    assert not embedding.certified_
    assert embedding.reference_ is embedding.comparison_ is None
    assert "did not converge to the tolerance 1e-14: " in embedding.failure_text()


@pytest.mark.parametrize(("method", "words"), [("pca", "covariance"), ("svd", "X'X")])
def test_plans_name_their_operator(method, words):
    shape = Shape(n_train=500, n_test=100, n_features=64, n_nonzeros=None, row_bytes=512)
    assert make_embedding(job_of(method), MACHINE).plan(shape, MACHINE).describe().startswith(words)
    little = dataclasses.replace(MACHINE, available_bytes=100)
    with pytest.raises(MemoryLimitError, match=words):
        make_embedding(job_of(method), little).plan(shape, little)


JOB = """
[data]
name = "images"
format = "npz"
train = ["images.npz"]

[embedding]
n_components = 4

[classifier]
enabled = false
"""


def planned(job):
    """Lines of a dry run, and the plan of the fit."""
    lines = describe_job(job).splitlines()
    _, train, test = read(job)
    embedding = fit(job, train, test)
    machine = Machine(job.comm.size, job.threads, job.available_bytes)
    plan = make_embedding(job.config, machine).plan(shape_of(train, test), machine)
    assert plan == embedding.plan_
    train.destroy()
    test.destroy()
    return lines, embedding.plan_


@pytest.mark.parametrize("method", ON_ROWS)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_the_plan_of_a_dry_run_is_that_of_the_fit(comm, shared_tmp, method, dtype):
    path = shared_tmp / "job.toml"
    if comm.rank == 0:
        np.savez(shared_tmp / "images.npz", x=IMAGES.astype(dtype), y=np.arange(len(IMAGES)) % 2)
        path.write_text(JOB)
    comm.Barrier()
    overrides = [f"embedding.method={method}", "solver.tol=1e-4"]
    lines, plan = planned(prepare(path, overrides, None, shared_tmp / "out", comm))
    assert f"operator   {plan.describe()}" in lines


def test_the_plan_of_a_dry_run_of_a_graph_is_that_of_the_fit(comm, shared_tmp):
    overrides = ["graph.n_nodes=300", "graph.n_edges=2000", "embedding.n_components=5"]
    lines, plan = planned(prepare(JOBS / "power_law.toml", overrides, None, shared_tmp / "o", comm))
    assert f"operator   {plan.describe()}" in lines
    assert plan.bytes == 8 * -(-300 // comm.size) * 75


def test_the_memory_of_the_rows_counts_in_a_dry_run_and_in_the_fit(comm, shared_tmp):
    path = shared_tmp / "job.toml"
    if comm.rank == 0:
        rows = np.random.default_rng(0).standard_normal((600 * comm.size, 1500))
        np.savez(shared_tmp / "images.npz", x=rows, y=np.arange(len(rows)) % 2)
        path.write_text(JOB)
    comm.Barrier()
    # the covariance and its basis fit, but not beside the rows
    shape = Shape(540 * comm.size, 60 * comm.size, 1500, None, 12000)
    machine = Machine(comm.size, 1, 2**40)
    config = load_job(path, ["embedding.engine=assembled"])
    one = make_embedding(config, machine).plan(shape, machine)
    limit = (one.bytes + 2**20) / 2**30
    overrides = ["embedding.engine=assembled", f"resources.memory_gib={limit}"]
    job = prepare(path, overrides, None, shared_tmp / "out", comm)
    message = "the assembled covariance of 1500 features needs"
    with pytest.raises(MemoryLimitError, match=message):
        describe_job(job)
    _, train, test = read(job)
    with pytest.raises(MemoryLimitError, match=message):
        fit(job, train, test)


@pytest.mark.parametrize(
    ("method", "words"), [("cooccurrence", "auto"), ("spectral", "auto"), ("nystroem", "auto")]
)
def test_engines_that_a_method_does_not_have(method, words):
    job = JobConfig(embedding=EmbeddingConfig(method=method, engine="block"))
    with pytest.raises(ConfigError, match=f"engine = block is not for {method}: use {words}"):
        make_embedding(job, MACHINE)


def test_a_spectrum_without_shares_leaves_even_steps():
    spectrum = Spectrum(np.array([3.0, 2.0]), "")
    np.testing.assert_allclose(spectrum.unexplained, [1.0, 0.5, 0.0])
    assert spectrum.explained_variance_ratio is None
    other = Spectrum(np.array([3.0, 2.0]), "", np.array([0.6, 0.4]), "feature space")
    assert other.explained_variance_ratio is None
    np.testing.assert_allclose(other.unexplained, [1.0, 0.4, 0.0], atol=1e-15)
