"""``hpcembed compress-model``: files in, a smaller model out, exit statuses, and messages."""

import hashlib
import json
import signal

import numpy as np
import onnx
import onnxruntime
import pytest

from hpcembed.cli import main
from hpcembed.jobs.checkpoints.model_checkpoints import StoredSums
from onnx_graphs import correlated_rows, mlp, run

ROWS = correlated_rows(400, 20)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(mlp(), "model.onnx")
    np.save("rows.npy", ROWS)
    np.save("labels.npy", run(mlp(), x=ROWS)[0].argmax(axis=1))
    return tmp_path


def compress(capsys, *words):
    capsys.readouterr()  # drop the output of an earlier command
    status = main(["compress-model", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_without_labels(folder, capsys):
    status, out, _ = compress(capsys, "model.onnx", "--data", "rows.npy", "--max-loss", "0.01")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == (
        "calibration: 300 rows of rows.npy; validation: the other 100, selected at random (seed 0)"
    )
    assert lines[1] == "metric: divergence from the model itself, in nats; it needs no labels"
    assert lines[-1] == "model written to model-compressed.onnx"
    small = onnx.load("model-compressed.onnx")
    after = sum(int(np.prod(t.dims)) for t in small.graph.initializer)
    totals = next(line.split() for line in lines if line.startswith("parameters "))
    assert totals == ["parameters", "1,589", f"{after:,}", f"{after / 1589:.1%}"]
    assert after < 1589
    session = onnxruntime.InferenceSession("model-compressed.onnx")
    assert session.run(None, {"x": ROWS})[0].shape == (400, 5)
    # No result is overwritten.
    status, _, err = compress(capsys, "model.onnx", "--data", "rows.npy", "--max-loss", "0.01")
    assert status == 2
    assert "model-compressed.onnx: exists" in err


def test_labels_and_a_folder(folder, capsys):
    status, out, _ = compress(
        capsys, "model.onnx", "--data", "rows.npy", "--labels", "labels.npy", "--budget",
        "parameters=0.6", "--out", "result",
    )  # fmt: skip
    assert status == 0
    assert "accuracy, validation" in out
    assert "100 %" in out
    assert "nats" not in out
    assert (folder / "result" / "model.onnx").is_file()
    record = json.loads((folder / "result" / "report.json").read_text())
    assert record["after"]["parameters"] <= 0.6 * record["before"]["parameters"]
    assert record["metric"] == "accuracy"
    assert record["samples"] == 300
    assert len((folder / "result" / "layers.csv").read_text().splitlines()) == 4
    card = (folder / "result" / "README.md").read_text()
    digest = hashlib.sha256((folder / "result" / "model.onnx").read_bytes()).hexdigest()
    assert card.startswith("# model, compressed\n")
    assert f"SHA-256 of `model.onnx` {digest}" in card
    assert "- Data: rows.npy." in card
    assert "load_model" not in card


def test_validation_rows_of_their_own(folder, capsys):
    np.save("more.npy", ROWS[:50])
    np.save("more_labels.npy", np.zeros(50, int))
    status, out, _ = compress(
        capsys, "model.onnx", "--data", "rows.npy", "--validation", "more.npy",
        "--validation-labels", "more_labels.npy", "--budget", "macs=0.7", "--layers", "first,y",
    )  # fmt: skip
    assert status == 0
    assert out.startswith("calibration: 400 rows of rows.npy; validation: 50 of more.npy\n")
    share = 100 * (run(mlp(), x=ROWS[:50])[0].argmax(axis=1) == 0).mean()
    assert f"{share:.5g} %" in out
    assert "not selected" in out


def test_nothing_within_the_loss(folder, capsys):
    status, out, _ = compress(
        capsys, "model.onnx", "--data", "rows.npy", "--max-loss", "0", "--out", "new.onnx"
    )
    assert status == 4
    assert "no smaller model loses at most 0 on the validation rows" in out
    assert not (folder / "new.onnx").exists()


def test_archives_bytes_and_the_rows_that_are_held_out(folder, capsys):
    pixels = np.random.default_rng(0).integers(0, 9, (200, 4, 5), dtype=np.uint8)
    np.savez("rows.npz", x=pixels)
    words = ["model.onnx", "--data", "rows.npz", "--budget", "parameters=0.8", "--out"]
    outputs = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        status, out, _ = compress(capsys, *words, name, "--seed", seed)
        assert status == 0
        assert (
            "warning: calibration rows.npz: bytes are converted to float64 without scaling" in out
        )
        outputs.append(json.loads((folder / name / "report.json").read_text())["calibration_hash"])
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-loss", "-1"], "--max-loss -1.0: give a number from 0 on"),
        (["--budget", "half"], "--budget half: write parameters=0.5"),
        (["--budget", "seconds=0.5"], "--budget seconds=0.5: write parameters=0.5 or macs=0.5"),
        (
            ["--max-loss", "1", "--labels", "labels.npy", "--validation", "rows.npy"],
            "--labels are those of --data, and --validation has other rows: give --validation-lab",
        ),
        (["--budget", "parameters=0.001"], "of the parameters cannot be met; the least is"),
        (["--budget", "parameters=0.5", "--metric", "accuracy"], "needs labels: give --labels"),
        (["--budget", "parameters=0.5", "--validation-labels", "labels.npy"], "needs --validation"),
        (["--budget", "parameters=0.5", "--labels", "few.npy"], "few.npy: 5 labels for 400 rows"),
        (["--budget", "parameters=0.5", "--out", "labels.npy"], "labels.npy: is a file"),
        (["--budget", "parameters=0.5", "--layers", "conv9"], "no layer matches 'conv9'"),
        (["--budget", "parameters=0.5", "--data", "bad.npy"], "row 321 has a value that is not"),
        (["--budget", "parameters=0.5", "--data", "narrow.npy"], "rows have 19, and the input x"),
        (["--budget", "parameters=0.5", "--data", "none.npy"], "none.npy"),
    ],
)
def test_errors(folder, capsys, words, message):
    np.save("few.npy", np.zeros(5, int))
    np.save("narrow.npy", ROWS[:, :19])
    bad = ROWS.copy()
    bad[321] = np.nan
    np.save("bad.npy", bad)
    before = sorted(path.name for path in folder.iterdir())
    status, _, err = compress(capsys, "model.onnx", "--data", "rows.npy", *words)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_file_that_is_no_model(folder, capsys):
    status, _, err = compress(capsys, "rows.npy", "--data", "rows.npy", "--max-loss", "0.1")
    assert status == 2
    assert "rows.npy: not a model of ONNX" in err


def small_job(folder, ranks):
    onnx.save(mlp(), folder / "model.onnx")
    np.save(folder / "rows.npy", ROWS)
    words = ["compress-model", "model.onnx", "--data", "rows.npy", "--budget", "parameters=0.6"]
    return [[*words, "--out", f"out-{ranks}"]]


@pytest.mark.launch(small_job, ranks=(1, 2))
def test_the_same_model_on_any_number_of_ranks(launched):
    losses = []
    for ranks in (1, 2):
        (done,) = launched[ranks]
        assert done.status == 0, done.err
        assert {"layers.csv", "model.onnx", "report.html", "report.json"} <= set(done.left)
        assert "calibration: 300 rows of rows.npy; validation: the other 100" in done.out
        lines = [line.split() for line in done.out.splitlines()]
        losses += [words for words in lines if words and words[0] in ("parameters", "first")]
    assert len(losses) == 4
    assert losses[:2] == losses[2:]


def test_a_stopped_command_continues_with_the_same_bits(folder, capsys, monkeypatch):
    words = ("model.onnx", "--data", "rows.npy", "--max-loss", "0.01", "--batch-size", "50")
    assert compress(capsys, *words, "--out", "whole.onnx")[0] == 0
    names, usual = [], StoredSums.batch_done

    def batch_done(self, state, *, ended):
        names.append(ended)
        if len(names) == 3:
            signal.raise_signal(signal.SIGTERM)
        usual(self, state, ended=ended)

    with monkeypatch.context() as patched:
        patched.setattr(StoredSums, "batch_done", batch_done)
        status, _, err = compress(capsys, *words, "--out", "small.onnx")
    assert status == 85
    command = "hpcembed compress-model model.onnx --data rows.npy --max-loss 0.01 --batch-size 50"
    assert err.endswith(f"; go on with: {command} --out small.onnx\n")
    assert (folder / ".small.onnx.checkpoints").is_dir()
    runs = []
    monkeypatch.setattr(StoredSums, "batch_done", lambda *_, ended, **__: runs.append(ended))
    assert compress(capsys, *words, "--out", "small.onnx")[0] == 0
    assert len(runs) == 4  # three of the six batches, and the end
    assert (folder / "small.onnx").read_bytes() == (folder / "whole.onnx").read_bytes()
    assert not list(folder.glob(".*"))


def test_an_error_leaves_nothing(folder, capsys):
    status, _, _ = compress(capsys, "model.onnx", "--data", "rows.npy", "--budget", "macs=0.0001")
    assert status == 2
    assert not list(folder.glob(".*"))
