"""A solve that continues from a saved state repeats the one that was not interrupted."""

import dataclasses
import hashlib
import json
import logging
import os

import numpy as np
import pytest
from petsc4py import PETSc

import miramns
from miramns import Options
from miramns.checkpointing import (
    CheckpointError,
    CheckpointMismatchError,
    CheckpointStore,
    StoppedAtCheckpointError,
)
from miramns.iteration import saved_iteration

pytestmark = pytest.mark.mpi

N = 400
SPECTRUM = np.sqrt(np.arange(1.0, N + 1))  # needs some restarts

SOLVES = {
    "default": {"hermitian": True},
    "nonsymmetric": {"hermitian": False, "which": "LR"},
    "partial": {"hermitian": True, "options": Options(orthogonalization="partial")},
    "partial, given sizes": {
        "hermitian": True, "ncv": 30, "options": Options(orthogonalization="partial"),
    },
    "block": {"hermitian": True, "variant": "block", "options": Options(block_size=3)},
    "block, chosen width": {"hermitian": True, "variant": "block", "ncv": 60},
    "dcgs2": {"hermitian": True, "options": Options(orthogonalization="dcgs2")},
    "dcgs2, nonsymmetric": {
        "hermitian": False, "which": "LR", "options": Options(orthogonalization="dcgs2"),
    },
    "published": {"variant": "published", "hermitian": True, "ncv": 40},
}  # fmt: skip


@pytest.fixture
def operator(operators):
    return operators(diagonal=SPECTRUM)


@pytest.fixture
def few_columns(monkeypatch):
    """Cycles of few columns, so that measured sizes restart as well."""
    monkeypatch.setattr("miramns.problem._MOST_COLUMNS", 40)


class Interrupted:
    """Asks one rank to stop at the offer number `at`."""

    def __init__(self, comm, at):
        self.comm, self.at, self.n = comm, at, 0

    def __call__(self):
        self.n += 1
        return self.n == self.at and self.comm.rank == self.comm.size - 1


def store_in(folder, comm, at=0, **settings):
    stop = Interrupted(comm, at)
    return CheckpointStore(folder, {}, comm, stop=stop, **{"every": 3600} | settings)


def interrupt(solve, folder, comm, at):
    """Stop a solve at the offer number `at`."""
    store = store_in(folder, comm, at)
    with store, pytest.raises(StoppedAtCheckpointError):
        solve(store)


def same_bits(a, b):
    for field in dataclasses.fields(a):
        if field.name == "seconds":
            continue
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, field.name
            assert x.tobytes() == y.tobytes(), field.name
        else:
            assert x == y, field.name


@pytest.mark.parametrize("name", SOLVES)
def test_resumed_at_any_state(comm, operator, shared_tmp, few_columns, name):
    def solve(store):
        return miramns.solve(operator, 4, checkpoint=store, **SOLVES[name])

    with store_in(shared_tmp / "whole", comm) as store:
        whole = solve(store)
    n_states = store.stop.n
    assert whole.converged
    assert whole.n_restarts > 1
    assert n_states > 3
    for at in sorted({2, n_states // 2, n_states}):
        interrupt(solve, shared_tmp / f"{at}", comm, at)
        with store_in(shared_tmp / f"{at}", comm) as store:
            same_bits(solve(store), whole)
        assert store.stop.n <= n_states - at + 1  # it did not begin anew


def test_interrupted_again_and_again(comm, operator, shared_tmp):
    whole = miramns.solve(operator, 4, hermitian=True, checkpoint=shared_tmp / "whole")
    for _turn in range(1000):
        with store_in(shared_tmp / "parts", comm, 3) as store:
            try:
                result = miramns.solve(operator, 4, hermitian=True, checkpoint=store)
                break
            except StoppedAtCheckpointError:
                continue
    assert _turn > 2
    same_bits(result, whole)


class Diagonal:
    def mult(self, mat, x, y):
        first, last = mat.getOwnershipRange()
        y.setArray(SPECTRUM[first:last] * x.getArray(readonly=1))


@pytest.mark.parametrize("name", ["default", "partial", "block", "dcgs2", "published"])
def test_states_of_another_number_of_ranks(comm, operator, keep, shared_tmp, few_columns, name):
    """Rank 0 begins alone, and all ranks continue."""
    if comm.rank == 0:
        alone = PETSc.COMM_SELF.tompi4py()
        A = keep(PETSc.Mat()).createPython((N, N), Diagonal(), comm=PETSc.COMM_SELF)
        A.setUp()
        interrupt(
            lambda store: miramns.solve(A, 4, checkpoint=store, **SOLVES[name]),
            shared_tmp / "store",
            alone,
            4,
        )
    comm.Barrier()
    n_matvec = miramns.solve(operator, 4, **SOLVES[name]).n_matvec
    records = []
    result = miramns.solve(
        operator, 4, checkpoint=shared_tmp / "store", monitor=records.append, **SOLVES[name]
    )
    assert 0 < len(records) < len(result.history)  # it did not begin anew
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, SPECTRUM[: -4 - 1 : -1], rtol=1e-12)
    assert result.n_matvec < 2 * n_matvec


def test_a_folder_and_its_interval(comm, operator, shared_tmp):
    folder = shared_tmp / "states"
    result = miramns.solve(operator, 4, hermitian=True, checkpoint=folder, checkpoint_every=0)
    comm.Barrier()
    assert sorted(os.listdir(folder)) == ["eigensolver"]  # and no lock
    again = miramns.solve(operator, 4, hermitian=True, checkpoint=str(folder))
    same_bits(result, again)
    assert len(again.history) == len(result.history)
    with pytest.raises(miramns.MiramnsError, match="give both"):
        miramns.solve(operator, 4, hermitian=True, checkpoint_every=3)
    with pytest.raises(miramns.MiramnsError, match="checkpoint_every >= 0"):
        miramns.solve(operator, 4, hermitian=True, checkpoint=folder, checkpoint_every=-1)


def test_no_state_is_written_before_it_is_due(comm, operator, shared_tmp):
    miramns.solve(operator, 4, hermitian=True, checkpoint=shared_tmp / "states")
    assert os.listdir(shared_tmp / "states") == []


@pytest.mark.parametrize(
    ("changed", "key"),
    [({"k": 5}, "k"), ({"tol": 1e-6}, "tol"), ({"which": "SA"}, "which"), ({"seed": 1}, "seed"),
     ({"ncv": 50}, "ncv"), ({"max_it": 7}, "max_it"), ({"hermitian": False}, "hermitian"),
     ({"variant": "block"}, "variant"), ({"options": Options(criterion="norm")}, "criterion"),
     ({"options": Options(nested_sizes=[9, 30])}, "nested_sizes"),
     ({"options": Options(multiplicity_check="always")}, "multiplicity_check"),
     ({"options": Options(orthogonalization="dcgs2")}, "orthogonalization")],
)  # fmt: skip
def test_other_arguments_are_refused(comm, operator, shared_tmp, changed, key):
    arguments = {"k": 4, "hermitian": True, "checkpoint": shared_tmp / "states"}
    miramns.solve(operator, checkpoint_every=0, **arguments)
    with pytest.raises(CheckpointMismatchError, match=f"{key} was ") as caught:
        miramns.solve(operator, **arguments | changed)
    assert set(caught.value.differences) == {key}


def test_another_operator_is_refused(comm, operator, operators, shared_tmp):
    miramns.solve(operator, 4, hermitian=True, checkpoint=shared_tmp, checkpoint_every=0)
    other = SPECTRUM.copy()
    other[N // 2] += 1e-3
    with pytest.raises(CheckpointMismatchError, match="of another operator"):
        miramns.solve(operators(diagonal=other), 4, hermitian=True, checkpoint=shared_tmp)


def test_a_state_that_is_not_finite_is_not_saved(comm, operator, shared_tmp, monkeypatch):
    arguments = {"k": 4, "hermitian": True, "checkpoint": shared_tmp / "states"}

    def spoiled(A, x):
        return np.full_like(x, np.nan if comm.rank == comm.size - 1 else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(saved_iteration, "apply_columns", spoiled)
        with pytest.raises(miramns.OperatorError, match="not finite: check the data"):
            miramns.solve(operator, checkpoint_every=0, **arguments)
    assert miramns.solve(operator, **arguments).reason > 0


def test_a_basis_that_is_not_finite_is_not_saved(comm, operator, shared_tmp, monkeypatch):
    arguments = {"k": 4, "hermitian": True, "checkpoint": shared_tmp / "states"}
    whole = miramns.solve(operator, 4, hermitian=True, checkpoint=shared_tmp / "whole")
    usual, n = saved_iteration.SavedIteration.offer, [0]

    def spoiled(self):
        n[0] += 1
        if n[0] == 3 and comm.rank == comm.size - 1:
            self._factorization.basis[-1, self._factorization.size] = np.inf
        usual(self)

    with monkeypatch.context() as patch:
        patch.setattr(saved_iteration.SavedIteration, "offer", spoiled)
        with pytest.raises(miramns.OperatorError, match=r"basis .* not finite: check the data"):
            miramns.solve(operator, checkpoint_every=0, **arguments)
    assert n[0] == 3
    states = shared_tmp / "states" / "eigensolver"
    assert len([path for path in states.iterdir() if not path.name.startswith(".")]) == 2
    with store_in(shared_tmp / "states", comm) as store:
        same_bits(miramns.solve(operator, 4, hermitian=True, checkpoint=store), whole)


def test_a_damaged_state(comm, operator, shared_tmp, caplog):
    """The older state leads to the same bits."""
    arguments = {"k": 4, "hermitian": True, "checkpoint": shared_tmp / "states"}
    whole = miramns.solve(operator, checkpoint_every=0, **arguments)
    comm.Barrier()
    if comm.rank == 0:
        newest = max((shared_tmp / "states" / "eigensolver").iterdir())
        with (newest / "basis.npy").open("r+b") as file:
            file.truncate(1000)
    comm.Barrier()
    with caplog.at_level(logging.WARNING):
        same_bits(miramns.solve(operator, **arguments), whole)
    assert comm.rank or "damaged" in caplog.text


class Remembering(Diagonal):
    """Products depend on their number, as long as the state is kept."""

    def __init__(self, number=0):
        self.number = number

    def get_state(self):
        return {"number": np.array([self.number])}

    def set_state(self, state):
        self.number = int(state["number"][0])

    def mult(self, mat, x, y):
        super().mult(mat, x, y)
        self.number += 1
        y.scale(1 + 1e-14 * (self.number % 7))


def change(folder, change_content):
    """Change the newest state and give it digests that fit."""
    path = max((folder / "eigensolver").iterdir()) / "manifest.json"
    content = json.loads(path.read_bytes())["manifest"]
    change_content(content["state"], path.parent)
    for entry in content["files"]:
        data = (path.parent / f"{entry['name']}.npy").read_bytes()
        for segment in entry["segments"]:
            start, length = segment[:2]
            segment[2] = hashlib.sha256(data[start : start + length]).hexdigest()
        digests = "".join(segment[2] for segment in entry["segments"])
        entry["sha256"] = hashlib.sha256(digests.encode()).hexdigest()
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({"manifest": content, "sha256": digest}))


def _of_part(part, **values):
    return lambda state, folder: state["parts"][part].update(values)


def _array(name, content):
    def changed(state, folder):
        path = folder / f"{name}.npy"
        data = path.read_bytes()
        path.write_bytes(data[:128] + content * ((len(data) - 128) // 8))

    return changed


@pytest.mark.parametrize(
    "changed",
    [
        _of_part("factorization", size=2**40),
        _of_part("factorization", size="9"),
        _of_part("factorization", n=7),
        _of_part("factorization", comm=1),
        _of_part("factorization", basis=[]),
        _of_part("factorization", inner=1),
        _of_part("sizes", _last=256),
        lambda state, folder: state.pop("parts"),
        lambda state, folder: state["problem"].update(capacity=2**50),
        lambda state, folder: state["problem"].update(orthogonalization="none"),
        _array("basis", np.float64(np.nan).tobytes()),
        _array("basis", np.float64(0.5).tobytes()),
        _array("hessenberg", np.float64(1e300).tobytes()),
        _array("history", np.float64(np.inf).tobytes()),
    ],
)
def test_a_state_of_another_form(comm, operator, shared_tmp, changed):
    """Digests prove that a state is whole, not that this program has written it."""

    def solve(store):
        return miramns.solve(operator, 4, hermitian=True, ncv=20, checkpoint=store)

    interrupt(solve, shared_tmp / "store", comm, 3)
    if comm.rank == 0:
        change(shared_tmp / "store", changed)
    comm.Barrier()
    with store_in(shared_tmp / "store", comm) as store, pytest.raises(CheckpointError) as caught:
        solve(store)
    text = str(caught.value)
    assert "the checkpoint has another form than this program writes" in text
    assert str(shared_tmp / "store") in text
    assert "\n" not in text


def test_an_operator_with_a_state(comm, keep, shared_tmp):
    def solve(store):
        A = keep(PETSc.Mat()).createPython((N, N), Remembering(), comm=comm)
        A.setUp()
        return miramns.solve(A, 4, hermitian=True, checkpoint=store)

    whole = solve(shared_tmp / "whole")
    interrupt(solve, shared_tmp / "parts", comm, 9)
    same_bits(solve(shared_tmp / "parts"), whole)


def test_an_operator_beside_its_approximation(comm, operators, shared_tmp):
    exact = operators(diagonal=SPECTRUM)
    single = operators(diagonal=SPECTRUM.astype(np.float32).astype(float))
    arguments = {"k": 4, "hermitian": True, "tol": 1e-6, "options": Options(exact=exact)}
    whole = miramns.solve(single, checkpoint=shared_tmp / "whole", **arguments)
    interrupt(
        lambda store: miramns.solve(single, checkpoint=store, **arguments),
        shared_tmp / "parts",
        comm,
        7,
    )
    same_bits(miramns.solve(single, checkpoint=shared_tmp / "parts", **arguments), whole)


def test_deflation_and_a_given_start(comm, operator, shared_tmp):
    first, last = operator.getOwnershipRange()
    top = np.zeros((N, 2))
    top[-2:] = np.eye(2)
    arguments = {
        "k": 3, "hermitian": True, "start": np.arange(first + 1.0, last + 1),
        "options": Options(deflation=top[first:last]),
    }  # fmt: skip
    whole = miramns.solve(operator, checkpoint=shared_tmp / "whole", **arguments)
    interrupt(
        lambda store: miramns.solve(operator, checkpoint=store, **arguments),
        shared_tmp / "parts",
        comm,
        7,
    )
    resumed = miramns.solve(operator, checkpoint=shared_tmp / "parts", **arguments)
    same_bits(resumed, whole)
    np.testing.assert_allclose(resumed.eigenvalues, SPECTRUM[[-3, -4, -5]], rtol=1e-12)


def test_a_generalised_problem(comm, sparse, shared_tmp):
    n = 120
    A = sparse(
        np.diag(np.sqrt(np.arange(1.0, n + 1))) + 0.1 * np.eye(n, k=1) + 0.1 * np.eye(n, k=-1)
    )
    B = sparse(np.diag(1 + 0.1 * np.cos(np.arange(n))))
    arguments = {"k": 3, "B": B, "hermitian": True, "tol": 1e-12}
    whole = miramns.solve(A, checkpoint=shared_tmp / "whole", **arguments)
    interrupt(
        lambda store: miramns.solve(A, checkpoint=store, **arguments), shared_tmp / "parts", comm, 5
    )
    comm.Barrier()
    assert os.listdir(shared_tmp / "parts") == ["attempt-0.eigensolver"]
    same_bits(miramns.solve(A, checkpoint=shared_tmp / "parts", **arguments), whole)


@pytest.mark.lapack
def test_small_matrices_need_no_states(comm, sparse, shared_tmp):
    A = sparse(np.diag(np.arange(1.0, 30)))
    result = miramns.solve(A, 3, hermitian=True, checkpoint=shared_tmp, checkpoint_every=0)
    assert "LAPACK" in result.solver
    comm.Barrier()
    assert os.listdir(shared_tmp) == []


def test_a_state_that_cannot_be_written_ends_the_solve(comm, operator, shared_tmp, monkeypatch):
    calls = []

    def full(*args):
        calls.append(1)
        if len(calls) > 3 * 2 and comm.rank == comm.size - 1:
            raise OSError(28, "No space left on device")
        return original(*args)

    original = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(CheckpointError, match="No space left on device; free space there"):
            miramns.solve(operator, 4, hermitian=True, checkpoint=shared_tmp, checkpoint_every=0)
    result = miramns.solve(operator, 4, hermitian=True, checkpoint=shared_tmp)
    assert result.converged


def test_sizes_repeat_with_checkpoints(comm, operator, shared_tmp, few_columns):
    """They do not follow from measured seconds."""
    arguments = SOLVES["partial"]
    first, second = (
        miramns.solve(operator, 4, checkpoint=shared_tmp / name, **arguments) for name in "ab"
    )
    same_bits(first, second)
    assert len(first.decisions) == first.n_restarts > 1


@pytest.mark.parametrize("name", SOLVES)
def test_everything_is_saved(comm, operator, shared_tmp, few_columns, monkeypatch, name):
    """Every number of a factorisation and of an iteration comes back, whatever it is."""
    seen = []
    offer = saved_iteration.SavedIteration.offer

    def recorded(saved):
        if saved._factorization.size and not seen:
            for part in saved._parts.values():
                for attribute, value in vars(part).items():
                    if type(value) is float:
                        setattr(part, attribute, value + 0.123)
                    elif attribute in ("_test_at", "_since", "_n_random", "n_breakdowns"):
                        setattr(part, attribute, value + 7)
            store = saved._checkpoint.store
            store.clock.every = 0
            seen.append(numbers(saved))
            offer(saved)
            raise StopIteration
        if seen and saved._factorization.size:
            seen.append(numbers(saved))
            raise StopIteration

    def numbers(saved):
        found = {}
        for role, part in saved._parts.items():
            rate = getattr(part, "_rate", None)
            for owner, thing in ((role, part), (f"{role} rate", rate)):
                if thing is None or isinstance(thing, int | float):
                    continue
                for attribute, value in vars(thing).items():
                    if attribute in OBJECTS:
                        continue
                    known = value.tolist() if isinstance(value, np.ndarray) else value
                    found[f"{owner}.{attribute}"] = known
        return found

    monkeypatch.setattr(saved_iteration.SavedIteration, "offer", recorded)
    for _part in range(2):
        with store_in(shared_tmp, comm) as store, pytest.raises(StopIteration):
            miramns.solve(operator, 4, checkpoint=store, **SOLVES[name])
    saved, restored = seen
    if comm.rank == 0:  # whose numbers are saved
        assert saved == restored
    assert saved["factorization.size"] > 0


#: Attributes that hold objects, or that this rank alone has.
OBJECTS = (
    "comm", "operator", "inner", "rows", "basis", "_columns", "_source", "_target", "_orthonormal",
    "_factorization", "_nominal", "_comm", "_rate", "seconds",
)  # fmt: skip
