"""Studies with rivals from the command line: files, ranks, resumption, errors; every projection."""

import csv
import json
import re
from typing import get_args

import numpy as np
import pytest
import scipy.fft
from sklearn.datasets import load_digits

from hpcembed import PCA, Autoencoder, LocalityPreservingProjection, TruncatedSVD
from hpcembed.data.matrix import DataMatrix
from hpcembed.jobs.study.rivals.catalogue import RIVALS, rival_limits, rival_settings
from hpcembed.jobs.study.settings import load_study
from hpcembed.jobs.study.trials import INPUT_KINDS, RivalKind, Trial, plan_batches
from hpcembed.runtime.errors import ConfigError, InputError
from hpcembed.runtime.ranks import ownership_range
from job_files import settings

SMALL = """
[data]
name = "digits"
format = "digits"
scaling = "divide"
divisor = 16.0

[study]
dimensions = [3, 12]
networks = [[8]]
rivals = ["lda", "dct"]
seeds = 2
margin = 50.0

[training]
epochs = 3
batch_size = 64

[output]
figures = false
"""


def write_small(folder):
    path = folder / "small.toml"
    path.write_text(SMALL)
    return path


def small_study(folder, ranks):
    out = str(ranks)
    study = ["study", write_small(folder), "--out", out]
    return [study, [*study, *settings("output.figures=true")]]


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.launch(small_study, ranks=(1, 2, 3))
def test_the_same_results_on_any_number_of_ranks(launched):
    found = []
    for ranks in (1, 2, 3):
        out = launched.folder / str(ranks)
        done, again = launched[ranks]
        assert done.status == 0, done.err
        assert "lda has at most 9 coordinates: larger k use these as well" in done.err
        assert "14 trials, 0 of them finished" in done.err
        assert "14 trials, 14 of them finished" in again.err
        assert again.status == 0, again.err
        assert re.search(r"At k = \d+, with the network 8, .*pca", done.out)
        study = json.loads((out / "study.json").read_text())
        rivals = study["rivals"]
        assert rivals["answer"] in again.out
        places = [(p["input"], p["dimension"], p["n_inputs"]) for p in rivals["points"]]
        assert sorted(places) == [
            ("dct", 3, 3), ("dct", 12, 12), ("lda", 3, 3), ("lda", 12, 9), ("spectral", 3, 3),
            ("spectral", 12, 12),
        ]  # fmt: skip
        # seconds of the fits are kept for a study that trains nothing again
        assert all(p["fit_seconds"] is not None for p in rivals["points"])
        assert len(table(out / "rivals.csv")) == 6
        assert {row["input"] for row in table(out / "accuracy.csv")} == {"full", "spectral"}
        page = (out / "report.html").read_text()
        assert "Which projection?" in page
        assert (out / "figures/rivals.svg").stat().st_size > 1000
        found.append({(r["input"], r["n_inputs"], r["seed"]): r for r in table(out / "trials.csv")})
        lda = [float(r["test_accuracy"]) for r in found[-1].values() if r["input"] == "lda"]
        dct = [float(r["test_accuracy"]) for r in found[-1].values() if r["input"] == "dct"]
        assert np.mean(lda) > np.mean(dct) + 0.1
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for key, trial in found[0].items():
            assert other[key]["digest"] == trial["digest"]
            for name in ("validation_accuracy", "test_accuracy"):
                assert float(other[key][name]) == pytest.approx(float(trial[name]), abs=0.01)


REGRESSION = """
[data]
name = "small"
train = ["small.csv"]
label_column = "y"
test_fraction = 0.3
task = "regression"

[study]
dimensions = [1, 2]
networks = [[4]]
rivals = ["cca", "variance", "fast", "truncation"]
seeds = 2

[training]
epochs = 2
validation_fraction = 0.3

[output]
figures = false
"""


def regression_study(folder):
    rows = np.random.default_rng(0).standard_normal((60, 3))
    lines = [f"{a:.5f},{b:.5f},{c:.5f},{a - 2 * b:.5f}" for a, b, c in rows]
    (folder / "small.csv").write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    (folder / "study.toml").write_text(REGRESSION)
    study = ["study", folder / "study.toml"]
    return [
        [*study, "--out", "out"],
        [*study, "--out", "lda", *settings('study.rivals=["lda"]')],
    ]


@pytest.mark.launch(regression_study, ranks=2)
def test_a_regression(launched):
    done, refused = launched.all
    assert done.status == 0, done.err
    assert "points of test R2" in done.out or "in test R2" in done.out
    points = json.loads((launched.folder / "out/study.json").read_text())["rivals"]["points"]
    assert {(p["input"], p["n_inputs"]) for p in points if p["dimension"] == 2} == {
        ("spectral", 2), ("cca", 1), ("variance", 2), ("fast", 2), ("truncation", 2),
    }  # fmt: skip
    assert refused.status == 2
    assert "lda needs classes, and the target is a number: leave it out, or use cca" in refused.err
    assert refused.err.count("hpcembed: error") == 1


def test_every_rival_is_an_input():
    assert sorted(RIVALS) == sorted(get_args(RivalKind))
    assert set(RIVALS) < set(INPUT_KINDS)


def test_settings_of_rivals(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('[study]\nrivals = ["lda", "gaussian"]\n')
    assert load_study(path).study.rivals == ("lda", "gaussian")
    path.write_text('[study]\nrivals = ["lda"]\nembeddings = ["whitened"]\n')
    with pytest.raises(ConfigError, match=r'add "spectral" to study\.embeddings'):
        load_study(path)
    path.write_text('[study]\nrivals = ["pca"]\n')
    with pytest.raises(ConfigError, match=r"study.rivals.*'pca' is not one of"):
        load_study(path)
    found = rival_settings(["lda", "gaussian", "dct"], (8, 8))
    assert found["lda"] == {"shrinkage": "auto"}
    assert found["dct"] == {"image_shape": [8, 8]}
    assert "gaussian" not in found  # its trials are those of study.embeddings


def test_batches_of_random_rivals_have_one_seed():
    for kind in ("fast", "autoencoder"):
        trials = [Trial(kind, (8,), k, seed) for k in (2, 3) for seed in range(5)]
        batches = plan_batches(trials, 10, 64)
        assert sorted(trial for batch in batches for trial in batch.trials) == sorted(trials)
        for batch in batches:
            assert len({trial.seed for trial in batch.trials}) == 1
            if kind == "autoencoder":  # each number of coordinates has its own
                assert len(batch.trials) == 1


@pytest.mark.mpi
def test_limits(comm):
    X, y = load_digits(return_X_y=True)
    # in the order of classes, so that ranks hold different ones
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    first, last = ownership_range(len(X), comm)
    names = tuple(map(str, range(12)))  # two classes are test rows only
    rows = DataMatrix(X[first:last], y[first:last], comm, class_names=names)
    assert rival_limits(["lda", "cca", "dct"], rows) == {"lda": 9, "cca": 9, "dct": 64}
    assert rival_limits([], rows) == {}
    few = DataMatrix(X[first:last, 18:21], y[first:last], comm, class_names=names)
    assert rival_limits(["lda"], few) == {"lda": 3}
    same = DataMatrix(X[first:last], 0 * y[first:last], comm, class_names=("a",))
    with pytest.raises(InputError, match="lda needs two classes"):
        rival_limits(["lda"], same)
    assert rival_limits(["dct"], same) == {"dct": 64}
    target = DataMatrix(X[first:last], y[first:last].astype(float), comm)
    assert rival_limits(["cca", "fast"], target) == {"cca": 1, "fast": 64}
    with pytest.raises(InputError, match="lda needs classes"):
        rival_limits(["lda"], target)


@pytest.mark.mpi
def test_the_limit_of_lpp_is_the_dimension_of_the_rows(comm):
    X, y = load_digits(return_X_y=True)  # three pixels are always zero
    first, last = ownership_range(len(X), comm)
    rows = DataMatrix(X[first:last], y[first:last], comm, class_names=tuple(map(str, range(10))))
    for embedding in (PCA(64), TruncatedSVD(64), PCA(62)):
        found = rival_limits(["lpp", "dct"], rows, embedding.fit(rows))
        assert found == {"lpp": 61, "dct": 64}
    for k in (5, 61):  # all components that the study needs exist
        assert rival_limits(["lpp"], rows, PCA(k).fit(rows)) == {"lpp": 64}
    fitted = LocalityPreservingProjection(61).fit(rows)
    assert fitted.components_.shape == (61, 64)
    with pytest.raises(InputError, match="need n_components <= 61, got 62"):
        LocalityPreservingProjection(62).fit(rows)


def test_an_error_names_the_projection(tmp_path):
    from mpi4py import MPI

    from hpcembed.jobs.job import place
    from hpcembed.jobs.study.embedded_data import embed_data
    from hpcembed.jobs.study.settings import job_of
    from hpcembed.jobs.study.trial_inputs import TrialInputs

    study = load_study(write_small(tmp_path))
    job = place(job_of(study), tmp_path, None, tmp_path / "out", MPI.COMM_SELF)
    data = embed_data(job)
    with pytest.raises(InputError, match="projection lda: need n_components <= 9, got 12"):
        TrialInputs(job, data, [Trial("lda", (8,), 12, 0)], centred=True)
    data.destroy()


def test_coordinates_of_rivals(tmp_path):
    """Input rows of the networks: the projections of scipy and numpy on the scaled rows."""
    from mpi4py import MPI

    from hpcembed.jobs.job import place
    from hpcembed.jobs.study.embedded_data import embed_data
    from hpcembed.jobs.study.settings import job_of
    from hpcembed.jobs.study.trial_inputs import TrialInputs

    study = load_study(write_small(tmp_path))
    job = place(job_of(study), tmp_path, None, tmp_path / "out", MPI.COMM_SELF)
    data = embed_data(job)
    kinds = ("dct", "truncation", "variance", "lda", "lpp", "fast")
    trials = [Trial(kind, (8,), 9, seed) for kind in kinds for seed in (0, 1)]
    limits = {"lda": 9}
    inputs = TrialInputs(job, data, trials, centred=True, limits=limits, image_shape=(8, 8))
    rows = data.train.dense_rows(np.float64)
    mean = rows.mean(axis=0)
    waves = scipy.fft.dctn((rows - mean).reshape(-1, 8, 8), norm="ortho", axes=(1, 2))
    expected = {
        "dct": waves[:, [0, 0, 1, 1, 0], [0, 1, 0, 1, 2]],
        "truncation": (rows - mean)[:, :5],
        "variance": (rows - mean)[:, np.argsort(-rows.var(axis=0))[:5]],
    }
    for kind, columns in expected.items():
        train, test = inputs.rows(Trial(kind, (8,), 9, 1))
        assert train.dtype == np.float32
        assert (train.shape, test.shape) == ((len(rows), 12), (data.test.n_rows, 12))
        np.testing.assert_allclose(train[:, :5], columns, atol=1e-5)
    train, _ = inputs.rows(Trial("lda", (8,), 9, 0))
    assert train.shape == (len(rows), 9)
    first, second = (inputs.rows(Trial("fast", (8,), 9, seed))[0] for seed in (0, 1))
    assert np.abs(first - second).max() > 0.1
    assert inputs.fit_seconds.keys() == set(kinds)
    assert set(inputs.fit_seconds["lda"]) == {9}
    assert set(inputs.fit_seconds["dct"]) == {12}
    inputs.destroy()
    two, three = Trial("autoencoder", (8,), 2, 0), Trial("autoencoder", (8,), 3, 1)
    coded = TrialInputs(job, data, [two, three], centred=True)
    assert [part.shape[1] for part in coded.rows(two)] == [2, 2]
    assert coded.rows(three)[0].shape == (len(rows), 3)
    model = Autoencoder(3, random_state=1, n_threads=job.threads).fit(data.train)
    np.testing.assert_array_equal(coded.rows(three)[1], model.transform(data.test, np.float32))
    assert set(coded.fit_seconds["autoencoder"]) == {2, 3}
    coded.destroy()
    plain = TrialInputs(job, data, [Trial("dct", (8,), 9, 0)], centred=False, image_shape=(8, 8))
    whole = scipy.fft.dctn(rows.reshape(-1, 8, 8), norm="ortho", axes=(1, 2))
    np.testing.assert_allclose(
        plain.rows(Trial("dct", (8,), 9, 0))[0][:, 0], whole[:, 0, 0], atol=1e-5
    )
    plain.destroy()
    data.destroy()
