"""The plan of a study: its trials, and what ``--dry-run`` prints."""

import re
from pathlib import Path

import pytest
from mpi4py import MPI

from hpcembed.jobs.job import place
from hpcembed.jobs.study.embedded_data import embed_data
from hpcembed.jobs.study.plan import describe_study, trials_of
from hpcembed.jobs.study.rivals.catalogue import rival_limits
from hpcembed.jobs.study.settings import job_of, load_study
from hpcembed.jobs.study.trial_inputs import TrialInputs, input_columns
from hpcembed.runtime.errors import ConfigError
from job_files import settings

SMALL = """
[data]
name = "digits"
format = "digits"

[study]
dimensions = [2, 6]
networks = [[8], [4]]
embeddings = ["spectral", "whitened", "gaussian"]
rivals = {rivals}
seeds = 2

[training]
epochs = 1

[output]
figures = false
"""


def write_small(folder, rivals="[]"):
    path = folder / "small.toml"
    path.write_text(SMALL.format(rivals=rivals))
    return path


def described(path, comm, *overrides):
    study = load_study(path, overrides)
    return describe_study(
        place(job_of(study), path.parent, None, Path("never-written"), comm), study
    )


@pytest.mark.launch
def test_a_dry_run_counts_the_trials_of_the_study_and_writes_nothing(run_each, tmp_path):
    command = ["study", write_small(tmp_path), "--out", "out"]
    (dry,) = run_each(2, [[*command, "--dry-run"]])
    assert dry.status == 0, dry.err
    assert not (tmp_path / "out").exists()
    (count,) = re.findall(r"trainings  (\d+) trials", dry.out)

    assert "random subspaces" not in dry.out
    wider = settings("study.dimensions=[2,6,9]", "study.intrinsic=true")
    real, again = run_each(2, [command, [*command, *wider, "--dry-run"]])
    assert "further ones in random subspaces follow" in again.out
    assert real.status == 0, real.err
    assert f"{count} trials, 0 of them finished" in real.err
    assert again.status == 0, again.err
    assert f"the output folder has {count} finished trials, and those" in again.out


REFUSED = {
    "65 dimensions of 64 features: lower": settings("study.dimensions=[65]"),
    "[8, 9] is not an image of 64 features": settings("study.image_shape=[8,9]"),
    "more than 2^31": settings("study.networks=[[9,100000,100000]]"),
    "not empty; choose another folder": ["--out", "."],
}


def refused_dry_run(folder, words):
    command = ["study", write_small(folder), "--out", "out", *REFUSED[words]]
    return [[*command, "--dry-run"], command]


@pytest.mark.launch(refused_dry_run, ranks=2)
@pytest.mark.parametrize("words", REFUSED)
def test_a_dry_run_refuses_the_same_as_the_study(launched, words):
    for done in launched.all:
        assert done.status == 2, done.err
        assert words in done.err
        assert done.err.count("hpcembed: error") == 1
        assert "Traceback" not in done.err
    assert not (launched.folder / "out" / "trials").exists()


def report_and_plan(folder):
    return [["study", write_small(folder), "--report-only", "--dry-run"]]


@pytest.mark.launch(report_and_plan, ranks=1)
def test_a_dry_run_has_no_report(launched):
    assert launched.done.status == 2
    assert "not allowed with argument --report-only" in launched.done.err


@pytest.mark.mpi
def test_lines_of_a_dry_run(comm, shared_tmp):
    if comm.rank == 0:
        write_small(shared_tmp)
    comm.barrier()
    lines = described(shared_tmp / "small.toml", comm).splitlines()
    begins = ["study", "ranks", "data", "output", "trainings", "operator", "memory"]
    assert [line.split()[0] for line in lines] == begins
    assert lines[0].startswith("study      digits: pca, 2 dimensions from k = 2 to 6, miramns")
    assert lines[2].startswith("data       digits, 1,438 training and 359 test rows of 64 features")
    assert lines[4] == (
        "trainings  28 trials (full 4, spectral 8, whitened 8, gaussian 8) of 2 networks and "
        "2 seeds"
    )
    assert re.search(
        r"data .*, operator and basis .*, inputs of the networks .* available", lines[6]
    )


def test_the_trials_of_rivals_that_need_classes_are_a_bound(tmp_path):
    path = write_small(tmp_path, '["lda", "dct"]')
    text = described(path, MPI.COMM_SELF, "study.dimensions=[2,6,9,20]", "study.baseline=false")
    assert "trainings  at most 80 trials" in text
    assert "lda 16, dct 16" in text


@pytest.mark.mpi
def test_columns_of_the_inputs_are_those_of_the_study(comm, shared_tmp):
    if comm.rank == 0:
        write_small(shared_tmp, '["lda", "lpp", "variance", "autoencoder"]')
    comm.barrier()
    path = shared_tmp / "small.toml"
    study = load_study(path, ["study.seeds=1"])
    job = place(job_of(study), path.parent, None, shared_tmp / "out", comm)
    data = embed_data(job)
    limits = rival_limits(study.study.rivals, data.train)
    trials = trials_of(study, data.n_features, limits)
    inputs = TrialInputs(job, data, trials, centred=True, limits=limits)
    held = {inputs.rows(trial)[0].ctypes.data: inputs.rows(trial)[0].shape[1] for trial in trials}
    assert sorted(input_columns(trials, 6, data.n_features, limits)) == sorted(held.values())
    inputs.destroy()
    data.destroy()
    with pytest.raises(ConfigError, match="65 dimensions of 64 features"):
        described(path, comm, "study.dimensions=[65]")
