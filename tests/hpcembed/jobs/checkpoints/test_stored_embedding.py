"""Fitted embeddings of every method are stored and restored with the same bits."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from hpcembed.data.matrix import DataMatrix
from hpcembed.embedding import Machine
from hpcembed.jobs.checkpoints.stored_embedding import restore_embedding, store_embedding
from hpcembed.jobs.checkpoints.stored_values import NotStorableError, pack, unpack
from hpcembed.jobs.configuration import JobConfig
from hpcembed.jobs.embedding_methods import METHODS, make_embedding
from hpcembed.runtime.ranks import ownership_range
from miramns import ConvergedReason
from miramns.checkpointing import CheckpointError, CheckpointStore

MACHINE = Machine(1, 1, 2**30)


def _with(method):
    job = JobConfig()
    return replace(job, embedding=replace(job.embedding, method=method, n_components=3))


def rows(comm):
    rng = np.random.default_rng(3)
    whole = np.abs(rng.standard_normal((60, 8))) + np.arange(8)
    first, last = ownership_range(60, comm)
    classes = np.arange(first, last) % 4  # for methods that use labels
    return DataMatrix(whole[first:last], classes, comm, storage="shell")


@pytest.mark.mpi
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"spectral"}))
def test_fitted_embeddings(comm, shared_tmp, method):
    X, job = rows(comm), _with(method)
    fitted = make_embedding(job, MACHINE).fit(X)
    with CheckpointStore(shared_tmp / "store", {}, comm) as store:
        assert store_embedding(store, fitted, X)
    other = make_embedding(job, MACHINE)
    with CheckpointStore(shared_tmp / "store", {}, comm) as store:
        assert restore_embedding(store, other, X)
    np.testing.assert_array_equal(other.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(other.spectrum_.values, fitted.spectrum_.values)
    np.testing.assert_array_equal(other.result_.eigenvectors, fitted.result_.eigenvectors)
    assert other.result_.reason is fitted.result_.reason
    assert isinstance(other.result_.reason, ConvergedReason)
    assert other.result_.history == fitted.result_.history
    assert other.certified_ == fitted.certified_
    assert other.seconds_ == fitted.seconds_
    assert other.operator_ == fitted.operator_
    assert other.result_.view() == fitted.result_.view()
    X.destroy()


@pytest.mark.mpi
def test_sizes_of_fewer_ranks_are_an_error_on_all_ranks(comm, shared_tmp):
    X = rows(comm)
    with CheckpointStore(shared_tmp / "store", {}, comm) as store:
        content = np.zeros(8, np.uint8)
        state = {"sizes": [8] * (comm.size - 1), "shared": []}
        store.save("embedding", {"ranks": content}, state=state)
        with pytest.raises(CheckpointError, match=r"sizes of \d+ ranks?"):
            restore_embedding(store, make_embedding(_with("pca"), MACHINE), X)
    X.destroy()


@pytest.mark.mpi
def test_an_embedding_that_was_never_stored(comm, shared_tmp):
    X = rows(comm)
    with CheckpointStore(shared_tmp / "empty", {}, comm) as store:
        assert not restore_embedding(store, make_embedding(_with("pca"), MACHINE), X)
    X.destroy()


def test_values():
    value = {
        "a": [1, 2.5, None, True, "x"],
        "b": (math.inf, -math.inf, 1e-300, 3 + 4j),
        "$": {"=": ConvergedReason.DIVERGED_ITS},
        "c": np.float64(0.1),
        "d": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "e": np.array(["x", "yz"], dtype=object),
    }
    content, arrays = pack(value)
    found = unpack(content, arrays)
    assert {key: found[key] for key in "ab$"} == {key: value[key] for key in "ab$"}
    assert type(found["c"]) is np.float64
    assert found["c"] == 0.1
    assert found["d"].flags.f_contiguous
    np.testing.assert_array_equal(found["d"], value["d"])
    assert found["e"].tolist() == ["x", "yz"]
    (nan,) = unpack(*pack((math.nan,)))
    assert math.isnan(nan)


@dataclasses.dataclass
class Foreign:
    x: int = 1


@pytest.mark.parametrize("value", [Foreign(), Path(), {1: 2}, len, object(), {1, 2}])
def test_values_of_other_packages_are_not_stored(value):
    with pytest.raises(NotStorableError):
        pack(value)


@pytest.mark.parametrize(
    "name",
    ["os:system", "subprocess:Popen", "hpcembed.jobs.job:Path", "hpcembed.cli:main", "hpcembed:os",
     "hpcembed.runtime.errors:InputError", "hpcembed.none", "hpcembedded:X"],
)  # fmt: skip
def test_a_file_creates_no_other_objects(name):
    with pytest.raises((NotStorableError, ImportError)):
        unpack({"$": "object", "class": name, "value": {}}, {})
