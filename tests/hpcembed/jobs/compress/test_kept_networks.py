"""The model of a search is a network that was judged, to the last bit."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import numpy as np
import pytest
import torch
from mpi4py import MPI
from safetensors.numpy import load_file

import hpcembed
from hpcembed.cli import main
from hpcembed.jobs.compress.kept_networks import KeptNetworks, best_of
from hpcembed.jobs.compress.search_result import WrittenModel
from hpcembed.jobs.report.scores import score_of
from hpcembed.jobs.study import trial_training
from hpcembed.jobs.study.result_store import FOLDER
from hpcembed.jobs.study.trials import Trial, TrialResult
from hpcembed.networks.training.batched_training import Member, train_batch
from hpcembed.networks.training.recipe import Recipe
from hpcembed.networks.training.samples import Samples
from hpcembed.networks.training.validation_split import stratified_holdout

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(120, 4))
CLASSES = (ROWS[:, 0] + 0.5 * RNG.normal(size=120) > 0).astype(np.int64)
RECIPE = Recipe(epochs=4, batch_size=16, validation_fraction=0.25)


def trained(seeds):
    samples = Samples(ROWS, CLASSES)
    members = [Member(seed, 4) for seed in seeds]
    return train_batch(
        samples, samples, 2, (6,), RECIPE, members, input_name="embedded", threads=1, device="cpu"
    )


def results_of(batch):
    return [
        TrialResult(
            digest=f"digest-{one.member.seed}",
            trial=Trial("spectral", (6,), 4, one.member.seed),
            parameters=one.parameters,
            train_seconds=1.0,
            train_loss=0.5,
            validation_score=one.validation_score,
            test_score=one.test_score,
            best_epoch=one.best_epoch,
            confusion=((1, 0), (0, 1)),
        )
        for one in batch.results
    ]


def not_trained(batch):
    raise AssertionError(f"{batch} was trained again")


def test_the_logits_of_the_kept_network_have_the_accuracy_of_its_trial(tmp_path):
    kept = KeptNetworks(MPI.COMM_SELF, tmp_path)
    (tmp_path / FOLDER).mkdir()
    batch = trained(range(5))
    results = results_of(batch)
    kept.take(batch, results, ("a", "b"))
    kept.store(results)
    best = best_of(results)
    network = kept.network(best, not_trained)
    seed = best.trial.seed
    _, validation = stratified_holdout(CLASSES, RECIPE.validation_fraction, seed)
    with torch.no_grad():
        logits = network.model(torch.from_numpy(ROWS[validation]))
        own = batch.classifier(seed).model(torch.from_numpy(ROWS[validation]))
    assert torch.equal(logits, own)
    accuracy = float((logits.argmax(1).numpy() == CLASSES[validation]).mean())
    assert accuracy == best.validation_score == network.report.validation_score
    assert network.report.test_score == best.test_score
    assert (network.report.device, network.report.threads) == ("cpu", 1)
    assert network.report.test_confusion == best.confusion
    assert network.report.task == "classification"


def test_one_file_for_each_k_and_only_for_the_best_trial(tmp_path):
    kept = KeptNetworks(MPI.COMM_SELF, tmp_path)
    (tmp_path / FOLDER).mkdir()
    batch = trained([0, 1])
    low, high = results_of(batch)
    low, high = (
        changed(low, validation_score=0.5),
        changed(high, validation_score=0.75),
    )
    kept.take(batch, [low, high], ())
    kept.store([low, high])
    assert files(tmp_path) == ["digest-1.safetensors"]
    worse = changed(results_of(trained([2]))[0], validation_score=0.6)
    kept.take(trained([2]), [worse], ())
    kept.store([low, high, worse])
    assert files(tmp_path) == ["digest-1.safetensors"]
    better = changed(results_of(trained([3]))[0], validation_score=0.9)
    kept.take(trained([3]), [better], ())
    kept.store([low, high, worse, better])
    assert files(tmp_path) == ["digest-3.safetensors"]


def changed(result, **changes):
    return msgspec.structs.replace(result, **changes)


def files(folder):
    return sorted(path.name for path in (folder / FOLDER).iterdir())


def test_a_network_that_is_not_stored_is_trained_again_and_named(tmp_path, caplog):
    kept = KeptNetworks(MPI.COMM_SELF, tmp_path)
    batch = trained([7])
    (result,) = results_of(batch)
    network = kept.network(result, lambda one: trained([one.trials[0].seed]))
    assert WrittenModel(result, network.report).is_trial
    other = dataclasses.replace(network.report, test_score=0.25)
    line = WrittenModel(result, other).text(score_of("classification"))
    assert line == "the written model (seed 7, trained again): test accuracy 25.00 %"
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "digest-7.safetensors").write_bytes(b"damaged")
    kept.network(result, lambda one: trained([one.trials[0].seed]))
    assert "the network is trained again" in caplog.text


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_search_writes_a_judged_network(tmp_path, monkeypatch, task):
    path, out = tmp_path / "rows.csv", tmp_path / "out"
    target = np.array(["no", "yes"])[CLASSES] if task == "classification" else ROWS[:, 0] * 2
    lines = [
        ",".join([*map(repr, map(float, row)), str(y)]) for row, y in zip(ROWS, target, strict=True)
    ]
    path.write_text("a,b,c,d,y\n" + "\n".join(lines) + "\n")
    arguments = [
        *("compress", str(path), "--label-column", "y", "--max-loss", "90", "--out", str(out)),
        *("--task", task, "--seeds", "3", "--max-seeds", "3"),
        *("--set", "classifier.hidden=[[6]]", "--set", "training.epochs=4"),
    ]
    batches = []
    train = trial_training.TrialTrainer.train

    def counted(self, batch, *more):
        batches.extend(batch.trials)
        return train(self, batch, *more)

    monkeypatch.setattr(trial_training.TrialTrainer, "train", counted)
    assert main(arguments) in (0, 5)
    assert len(set(batches)) == len(batches)  # no trial is trained twice
    found = json.loads((out / "compress.json").read_text())
    written, best = found["written"], max(found["results"], key=lambda r: r["validation_score"])
    assert written == {
        "seed": best["cell"]["seed"],
        "validation_score": best["validation_score"],
        "test_score": best["test_score"],
        "is_trial": True,
    }
    assert f"the written model (seed {written['seed']}): test" in (out / "compress.md").read_text()
    kind = "classifier" if task == "classification" else "regressor"
    model = load_file(out / f"{kind}-embedded-6.safetensors")
    kept = load_file(out / FOLDER / f"{best['digest']}.safetensors")
    assert {name: value.tolist() for name, value in model.items()} == {
        name: value.tolist() for name, value in kept.items()
    }
    assert hpcembed.load(out).description["network"]
    # A repeated search trains nothing, and writes the same network.
    batches.clear()
    assert main(arguments) in (0, 5)
    again = load_file(out / f"{kind}-embedded-6.safetensors")
    assert not batches
    assert all(np.array_equal(again[name], model[name]) for name in model)


def test_labels_of_test_rows_choose_nothing():
    settings = {
        "max_loss": 30,
        "networks": [(4,), (8,)],
        "seeds": 2,
        "max_seeds": 2,
        "settings": {"training.epochs": 3},
    }
    train, test = slice(0, 90), slice(90, 120)
    found = [
        hpcembed.compress(ROWS[train], CLASSES[train], test=(ROWS[test], labels), **settings)
        for labels in (CLASSES[test], 1 - CLASSES[test])
    ]
    first, second = (one.report.content for one in found)
    assert first["answer"] == second["answer"]
    assert first["written"]["seed"] == second["written"]["seed"]
    scores = [one["written"]["test_score"] for one in (first, second)]
    assert scores[0] == pytest.approx(1 - scores[1])
    assert found[0].files_["model.safetensors"] == found[1].files_["model.safetensors"]


@pytest.mark.mpi
def test_the_best_network_of_all_ranks_is_stored(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path)
    if comm.rank == 0:
        (folder / FOLDER).mkdir()
    comm.Barrier()
    kept = KeptNetworks(comm, folder)
    batch = trained([comm.rank])
    (mine,) = results_of(batch)
    mine = changed(mine, validation_score=0.5 + 0.1 * comm.rank)
    kept.take(batch, [mine], ())
    group = comm.allgather(mine)
    kept.store(group)
    comm.Barrier()
    assert files(folder) == [f"digest-{comm.size - 1}.safetensors"]
