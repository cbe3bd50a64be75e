"""Map of a finished run: coordinates of its rows, positions, figure, command."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

from hpcembed import cli
from hpcembed.jobs.export.finished_run import read_run
from hpcembed.jobs.job import prepare
from hpcembed.jobs.run import fit, read, run_job
from hpcembed.jobs.run_map import command, layout
from hpcembed.jobs.run_map.command import draw_run_map
from hpcembed.jobs.run_map.layout import map_positions
from hpcembed.jobs.run_map.rows import map_rows
from hpcembed.runtime.errors import ConfigError, InputError, MissingPackageError
from hpcembed.runtime.ranks import gather_rows
from job_files import settings, write_small

QUICK = ("classifier.enabled=false", "output.figures=false")


@pytest.fixture
def small_run(comm, shared_tmp):
    """Return the folder and the job of a finished run; all ranks run it."""

    def run(*overrides, rows=30):
        if comm.rank == 0:
            write_small(shared_tmp, rows)
        comm.Barrier()
        job = prepare(
            shared_tmp / "small.toml", (*QUICK, *overrides), None, shared_tmp / "out", comm
        )
        assert run_job(job) == 0
        return shared_tmp / "out", job

    return run


@pytest.mark.mpi
@pytest.mark.parametrize("most", [1000, 7])
def test_coordinates_are_those_of_the_run(comm, small_run, most, monkeypatch):
    monkeypatch.setattr("hpcembed.jobs.run_map.rows._BLOCK_BYTES", 8 * 3 * 4)  # blocks of 4 rows
    out, job = small_run("data.scaling=minmax")  # after which means are not zero
    found = map_rows(read_run(out, None), comm, most)
    _, train, test = read(job)
    embedding = fit(job, train, test)
    whole, labels = gather_rows(comm, embedding.transform(train)), gather_rows(comm, train.labels)
    train.destroy()
    test.destroy()
    if comm.rank:
        assert found is None
        return
    chosen = np.linspace(0, len(whole) - 1, min(most, len(whole))).astype(int)
    np.testing.assert_allclose(found.coordinates, whole[chosen], atol=1e-10)
    assert list(found.classes) == ["xy"[code] for code in labels[chosen]]
    assert list(found.names) == (chosen + 1).tolist()
    assert (found.targets, found.n_rows) == (None, len(whole))


@pytest.mark.mpi
def test_targets_of_a_regression(comm, small_run):
    out, job = small_run("data.label_column=c")
    found = map_rows(read_run(out, None), comm, 10)
    _, train, test = read(job)
    targets = gather_rows(comm, train.labels)
    train.destroy()
    test.destroy()
    if comm.rank == 0:
        chosen = np.linspace(0, len(targets) - 1, 10).astype(int)
        np.testing.assert_array_equal(found.targets, targets[chosen])
        assert found.classes == ()


@pytest.mark.mpi
def test_runs_without_projection_are_refused(comm, small_run):
    out, _ = small_run("embedding.method=kernel_pca")
    with pytest.raises(InputError, match="method = kernel_pca keeps no projection"):
        map_rows(read_run(out, None), comm, 10)


@pytest.mark.mpi
def test_changed_data_are_refused(comm, small_run, shared_tmp):
    out, _ = small_run()
    if comm.rank == 0:
        path = shared_tmp / "small.csv"
        lines = [line.split(",") for line in path.read_text().split()]
        path.write_text("\n".join(",".join(line[1:]) for line in lines) + "\n")
    comm.Barrier()
    with pytest.raises(InputError, match="the data have 2 features, the run had 3: the files"):
        map_rows(read_run(out, None), comm, 10)


NODES = "node,class,coordinate1,coordinate2\nann,red,0.5,1\nbob,,2,3\ncy,blue,-1,0\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "nodes.csv: no such file: the run wrote no coordinates of its nodes"),
        (NODES.replace("0.5", "half"), "nodes.csv: damaged .*half.*; run the job again"),
        (NODES, None),
    ],
)
def test_nodes_of_a_graph(comm, tmp_path, text, message):
    job = SimpleNamespace(embedding=SimpleNamespace(method="spectral"))
    run = SimpleNamespace(folder=tmp_path, job=job)
    if text is not None:
        (tmp_path / "nodes.csv").write_text(text)
    if message:
        with pytest.raises(InputError, match=message):
            map_rows(run, comm, 10)
        return
    found = map_rows(run, comm, 10)
    assert found.names == ["ann", "bob", "cy"]
    np.testing.assert_array_equal(found.coordinates, [[0.5, 1.0], [2.0, 3.0], [-1.0, 0.0]])
    assert found.classes == ["red", "without label", "blue"]
    assert found.n_rows == 3
    assert map_rows(run, comm, 2).names == ["ann", "cy"]


@pytest.fixture
def without_umap(monkeypatch):
    """Positions are the two leading coordinates: the figure is drawn in any installation."""
    monkeypatch.setattr(command, "missing", lambda packages: [])
    monkeypatch.setattr(layout, "map_positions", lambda rows, seed: rows[:, :2] + seed)


@pytest.mark.mpi
def test_figure_and_its_numbers(comm, small_run, without_umap):
    out, _ = small_run()
    line = draw_run_map(out, comm, most=12, seed=3)
    again = map_rows(read_run(out, None), comm, 12)
    if comm.rank:
        return
    assert line == f"map of 12 of 22 training rows written to {out / 'figures' / 'map.png'}"
    assert min(imread(out / "figures/map.png").shape[:2]) > 300
    rows = list(csv.DictReader((out / "figures/map.csv").open()))
    assert list(rows[0]) == ["training_row", "umap1", "umap2", "class"]
    np.testing.assert_allclose([float(row["umap2"]) for row in rows], again.coordinates[:, 1] + 3)
    assert [row["class"] for row in rows] == list(again.classes)
    assert not list(out.parent.glob(".*.lock"))


def test_figure_of_a_regression(comm, small_run, without_umap):
    out, _ = small_run("data.label_column=c")
    assert draw_run_map(out, comm).startswith("map of 21 training rows written to ")
    rows = list(csv.DictReader((out / "figures/map.csv").open()))
    assert list(rows[0]) == ["training_row", "umap1", "umap2", "target"]


@pytest.mark.mpi
def test_errors_are_one_line_before_the_data_are_read(comm, small_run, shared_tmp, monkeypatch):
    monkeypatch.setattr(command, "missing", lambda packages: list(packages))
    # a wrong folder is named first, also without umap-learn
    with pytest.raises(InputError, match=r"contains no run\.json: not a finished run"):
        draw_run_map(shared_tmp, comm)
    out, _ = small_run()
    (shared_tmp / "small.csv").unlink(missing_ok=True)  # the data are not read
    with pytest.raises(MissingPackageError, match=r'^umap-learn is not installed: pip install '
                       r'"hpcembed\[map\]"$'):  # fmt: skip
        draw_run_map(out, comm)
    with pytest.raises(ConfigError, match="--rows 0: give a number of at least 1"):
        draw_run_map(shared_tmp, comm, most=0)
    with pytest.raises(ConfigError, match="--seed -1: give a number between 0 and"):
        draw_run_map(shared_tmp, comm, seed=-1)


def test_options(capsys):
    arguments = cli._parse(["report", "out", "--map", "--rows", "50", "--seed", "2"], rank=0)
    assert (arguments.map, arguments.rows, arguments.seed) == (True, 50, 2)
    with pytest.raises(SystemExit):
        cli._parse(["report", "out"], rank=0)
    assert "the following arguments are required: --map" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(3, 5), (10, 1)])
def test_too_few_rows_or_coordinates(shape):
    with pytest.raises(InputError, match=rf"at least 4 rows and 2 coordinates, not {shape[0]} and"):
        map_positions(np.zeros(shape))


def clusters(n=120):
    rng = np.random.default_rng(0)
    codes = np.arange(n) % 3
    return 8.0 * np.eye(6)[codes] + rng.standard_normal((n, 6)), codes


def test_positions_keep_clusters_and_are_deterministic():
    pytest.importorskip("umap")
    rows, codes = clusters()
    positions = map_positions(rows, seed=1)
    assert positions.shape == (120, 2)
    distances = np.linalg.norm(positions[:, None] - positions, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (codes[distances.argmin(axis=1)] == codes).all()
    np.testing.assert_array_equal(map_positions(rows, seed=1), positions)
    assert not np.array_equal(map_positions(rows, seed=2), positions)
    # few rows, equal rows, a constant leading coordinate
    for unusual in (rows[:5], np.repeat(rows[:4], 5, axis=0), rows * [0, 1, 1, 1, 1, 1]):
        assert np.isfinite(map_positions(unusual)).all()


@pytest.mark.launch
def test_command(run_mpi, tmp_path):
    pytest.importorskip("umap")
    job = write_small(tmp_path, rows=60)
    out = tmp_path / "out"
    done = run_mpi(1, "-m", "hpcembed", "run", job, "--out", out, *settings(*QUICK))
    assert done.status == 0, done.err
    before = json.loads((out / "run.json").read_text())
    files = []
    for ranks in (1, 2):
        done = run_mpi(ranks, "-m", "hpcembed", "report", out, "--map", "--rows", "30")
        assert done.status == 0, done.err
        assert "map of 30 of 42 training rows written to" in done.out
        files.append((out / "figures/map.csv").read_bytes())
    assert files[0] == files[1]
    assert json.loads((out / "run.json").read_text()) == before
