"""The reproducible mode of jobs: the files of one rank on any number of ranks."""

import hashlib
import json

import numpy as np
import pytest
from mpi4py import MPI
from sklearn.datasets import load_breast_cancer, load_digits

from hpcembed.jobs.configuration import load_job
from hpcembed.jobs.job import prepare
from hpcembed.jobs.run import run_job
from hpcembed.runtime.errors import ConfigError

#: Files that hold no times and no number of ranks.
FILES = (
    "eigenvalues.csv",
    "convergence.csv",
    "projection.safetensors",
    "classifier-embedded-6.safetensors",
    "classifier-full-6.safetensors",
    "model/model.safetensors",
    "model/model.onnx",
)

JOB = """
[data]
name = "small"
{data}

[embedding]
n_components = 5

[classifier]
hidden = [[6]]

[training]
epochs = 2
batch_size = 32

[output]
figures = false
"""

DATA = {
    # text of numbers, standardised
    "csv": 'train = ["rows.csv"]\nlabel_column = "label"\nscaling = "standard"',
    "csv, minmax": 'train = ["rows.csv"]\nlabel_column = "label"\nscaling = "minmax"',
    "digits": 'format = "npz"\ntrain = ["digits.npz"]\nscaling = "standard"',
    "single": 'format = "npz"\ntrain = ["single.npz"]',
}


def write(folder):
    """Breast cancer as text, digits in double and in single precision."""
    rows, labels = load_breast_cancer(return_X_y=True)
    lines = [",".join([*(f"f{i}" for i in range(12)), "label"])]
    lines += [
        ",".join([*map(repr, row[:12].tolist()), "ab"[label]])
        for row, label in zip(rows, labels, strict=True)
    ]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    images, digits = load_digits(return_X_y=True)
    np.savez(folder / "digits.npz", x=images[:500], y=digits[:500])
    np.savez(folder / "single.npz", x=(images[:500] / 7).astype(np.float32), y=digits[:500])
    for name, data in DATA.items():
        (folder / f"{name}.toml").write_text(JOB.format(data=data))


def digests(out):
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES}


def without_times(value):
    """A value of run.json without seconds."""
    if isinstance(value, list):
        return [without_times(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: without_times(one) for key, one in value.items() if "seconds" not in key}


def contents(out):
    """The results in run.json; seconds and the environment vary."""
    run = json.loads((out / "run.json").read_text())
    return without_times({name: run[name] for name in ("dataset", "embedding", "classifiers")})


@pytest.fixture
def folder(comm, shared_tmp):
    if comm.rank == 0:
        write(shared_tmp)
    comm.Barrier()
    yield shared_tmp
    comm.Barrier()


@pytest.mark.mpi
@pytest.mark.parametrize("name", DATA)
def test_files_of_one_rank(comm, folder, name):
    path, mode = folder / f"{name}.toml", ["resources.reproducible=true"]
    if comm.rank == 0:
        assert run_job(prepare(path, mode, None, folder / "alone", MPI.COMM_SELF)) == 0
    assert run_job(prepare(path, mode, None, folder / "all", comm)) == 0
    comm.Barrier()
    assert digests(folder / "all") == digests(folder / "alone")
    found = contents(folder / "all")
    assert found == contents(folder / "alone")
    assert found["classifiers"][0]["test_accuracy"] > 0


@pytest.mark.launch
def test_one_and_four_ranks(run_each, tmp_path):
    write(tmp_path)
    names = ("csv", "single")
    for ranks in (1, 4):
        done = run_each(
            ranks,
            [
                ["run", f"{name}.toml", "--reproducible", "--out", f"{name}-{ranks}"]
                for name in names
            ],
        )
        assert [one.status for one in done] == [0, 0], done
    for name in names:
        assert digests(tmp_path / f"{name}-1") == digests(tmp_path / f"{name}-4")
        assert "reproducible = true" in (tmp_path / f"{name}-4" / "job.toml").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["embedding.method=kernel_pca"], "the sums of embedding.method = kernel_pca depend on"),
        (["classifier.parallel=data_parallel"], "data-parallel training adds gradients"),
        (["data.format=graph", "graph.smoothing=2"], "sums over the neighbours of graph nodes"),
    ],
)
def test_refusals(tmp_path, overrides, message):
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(data='train = ["rows.csv"]'))
    load_job(path, ["resources.reproducible=true"])
    with pytest.raises(ConfigError, match=f"resources.reproducible: .*{message}"):
        load_job(path, ["resources.reproducible=true", *overrides])


def test_threads(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(data='train = ["rows.csv"]'))
    for overrides, threads in (([], 1), (["resources.threads=2"], 2)):
        job = prepare(
            path, ["resources.reproducible=true", *overrides], None, tmp_path, MPI.COMM_SELF
        )
        assert job.threads == threads
