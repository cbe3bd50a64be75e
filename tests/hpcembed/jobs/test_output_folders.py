"""Output folders: files of the user are kept, and a folder belongs to one job at a time."""

import json

import msgspec
import pytest

from hpcembed.runtime.output import lock as output_lock
from hpcembed.runtime.output.lock import marker_of
from job_files import write_small

STUDY = """
[data]
name = "digits"
format = "digits"

[study]
dimensions = [2]
networks = [[4]]
seeds = 2

[training]
epochs = 1

[output]
figures = false
"""
NAMES = ("study.toml", "compress.toml", "job.toml", "run.json", "model.json", "completion.json")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.launch
def test_files_of_the_user_are_never_overwritten(run_each, tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    write_small(tmp_path)
    for name in NAMES[1:]:
        (tmp_path / name).write_text("# mine\n")
    (tmp_path / "elsewhere.toml").write_text(STUDY)
    (tmp_path / "ratings.csv").write_text("u,a,1\nu,b,2\nv,a,3\nv,b,1\n" * 3)
    before = files_of(tmp_path)
    commands = [
        ["study", "study.toml", "--out", "."],
        ["study", "elsewhere.toml", "--out", "."],
        ["compress", "small.csv", "--out", "."],
        ["run", "small.toml", "--out", "."],
        ["export", "run", "--out", "."],
        ["complete", "ratings.csv", "--out", "."],
    ]
    for done in run_each(1, commands):
        assert done.status == 2, done.err
        assert done.err.count("hpcembed: error: .: ") == 1, done.err
        assert "Traceback" not in done.err
    after = files_of(tmp_path)
    assert {name: after[name] for name in before} == before


@pytest.mark.launch
def test_a_study_is_repeated_from_the_file_in_its_folder(run_each, tmp_path):
    (tmp_path / "my.toml").write_text(STUDY)
    out = tmp_path / "out"
    (first,) = run_each(1, [["study", "my.toml", "--out", "out"]])
    assert first.status == 0, first.err
    written = (out / "study.toml").read_text()
    assert written.startswith("# Written by hpcembed")
    (out / "study.toml").write_text(written + "# a note\n")
    again, other = run_each(
        1, [["study", "out/study.toml", "--out", "out"], ["study", "my.toml", "--out", "out"]]
    )
    assert again.status == other.status == 0, again.err + other.err
    assert "4 trials, 4 of them finished" in again.err
    assert (out / "study.toml").read_text() == written  # by the last command


@pytest.mark.launch
def test_an_output_of_another_job_is_refused_by_every_command(run_each, tmp_path):
    job = write_small(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)
    for name in ("out", "out.onnx"):
        owner = msgspec.structs.replace(output_lock._this_process(), host="elsewhere")
        marker_of(tmp_path / name).write_bytes(msgspec.json.encode(owner))
    commands = [
        ["run", job, "--out", "out"],
        ["study", "study.toml", "--out", "out"],
        ["compress", job, "--out", "out"],
        ["compress-model", "x.onnx", "--data", "x.npy", "--max-loss", "1", "--out", "out.onnx"],
        ["complete", "small.csv", "--out", "out"],
        ["export", "run", "--out", "out"],
        ["predict", "model", "small.csv", "--out", "out"],
    ]
    for done in run_each(2, commands):
        assert done.status == 2, done.err
        assert done.err.count("in use by another job") == 1, done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.launch
def test_markers_are_removed_after_success_and_after_errors(run_each, tmp_path):
    job = write_small(tmp_path)
    good, bad = run_each(
        2, [["run", job, "--out", "good"], ["run", job, "--out", "bad", "--set", "data.train=no"]]
    )
    assert good.status == 0, good.err
    assert bad.status == 2
    assert json.loads((tmp_path / "good" / "run.json").read_text())
    assert not list(tmp_path.rglob("*.lock"))
    assert not (tmp_path / "bad").exists()
