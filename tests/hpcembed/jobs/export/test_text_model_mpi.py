"""A model of text: a run leaves its vocabulary, and texts go in, from files and from Python."""

from __future__ import annotations

import csv
import io
import json
import tarfile

import numpy as np
import pytest

import hpcembed
from hpcembed.data.text.cleaning import TextRules
from hpcembed.data.text.serialise import vectoriser_from_json, vectoriser_to_json
from hpcembed.data.text.vectoriser import TermWeights, Vectoriser
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.jobs.job import prepare
from hpcembed.jobs.predict import predict_file
from hpcembed.jobs.run import run_job
from hpcembed.runtime.errors import ConfigError, InputError

pytestmark = pytest.mark.mpi

JOB = """
[data]
name = "places"
format = "text_lines"
train = ["train.txt"]
headers = "remove"
sublinear_tf = true
relevance = "classes"

[embedding]
n_components = 4

[classifier]
hidden = [[12]]
baseline = false

[training]
epochs = 40
learning_rate = 0.02
batch_size = 32

[output]
figures = false
"""


def documents(n: int, seed: int) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    labels = [("sea", "road", "sky")[i % 3] for i in range(n)]
    pools = {
        "sea": "ship sail wave", "road": "car wheel brake", "sky": "cloud wind plane",
    }  # fmt: skip
    texts = []
    for label in labels:
        words = [*pools[label].split(), "the", "and", "with", "über"]
        texts.append(" ".join(generator.choice(words, 8)))
    return texts, labels


@pytest.mark.slow
def test_run_and_predict(comm, shared_tmp):
    root = shared_tmp
    texts, labels = documents(60, 1)
    if comm.rank == 0:
        known, truth = documents(120, 0)
        (root / "job.toml").write_text(JOB)
        lines = [f"{label} {text}\n" for label, text in zip(truth, known, strict=True)]
        (root / "train.txt").write_text("".join(lines), encoding="utf-8")
        lines = [f"{label} {text}\n" for label, text in zip(labels, texts, strict=True)]
        (root / "new.test").write_text("".join(lines), encoding="utf-8")
        (root / "plain.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        with (root / "new.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "kind"), *zip(texts, labels, strict=True)])
        with tarfile.open(root / "new.tgz", "w:gz") as archive:
            for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
                raw = f"Subject: {label}\n\n{text}".encode()
                member = tarfile.TarInfo(f"{label if i else 'elsewhere'}/{i}")
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
        (root / "flat").mkdir()
        for i, text in enumerate(texts):
            (root / "flat" / f"{i:02d}").write_text(text, encoding="utf-8")
    comm.Barrier()
    assert run_job(prepare(root / "job.toml", [], None, root / "run", comm)) == 0

    model = hpcembed.load(root / "run")
    assert model.score(texts, labels) > 0.9
    expected = model.predict(texts)
    rows = model.vectoriser.transform(texts)
    np.testing.assert_array_equal(model.predict(rows), expected)
    np.testing.assert_array_equal(model.predict(np.array(texts, dtype=object)), expected)
    np.testing.assert_array_equal(
        model.predict_logits([f"Subject: ship\n\n{text}" for text in texts]),
        model.predict_logits(texts),
    )
    assert model.predict([]).size == 0
    with pytest.raises(InputError, match="list of texts"):
        model.predict("a ship")

    csv_of = ["data.text_column=text", "data.label_column=kind"]
    cases = {
        "new.test": ([], True), "plain.txt": ([], False), "new.csv": (csv_of, True),
        "new.tgz": ([], True), "flat": ([], False),
    }  # fmt: skip
    share = np.mean(expected == np.array(labels))
    for name, (overrides, has_labels) in cases.items():
        out = root / "predictions.csv"
        accuracy = predict_file(root / "run", root / name, comm, overrides=overrides, out=out)
        found = [row["prediction"] for row in csv.DictReader(out.open())]
        assert found == expected.tolist(), name
        assert (accuracy is not None) == has_labels, name
        if has_labels and name != "new.tgz":  # one document of it is in no class
            assert accuracy == pytest.approx(share)
        comm.Barrier()
    if comm.rank == 0:
        (root / "blank.txt").write_text("\xa0\n\u2003\n\xa0\n", encoding="utf-8")
        (root / "gap.txt").write_text("sea ship\n\xa0\nsky wind\n", encoding="utf-8")
    comm.Barrier()
    out = root / "predictions.csv"
    assert predict_file(root / "run", root / "blank.txt", comm, out=out) is None
    assert len(list(csv.DictReader(out.open()))) == 3
    with pytest.raises(InputError, match="row 2: the label is empty"):
        predict_file(root / "run", root / "gap.txt", comm, out=out)
    with pytest.raises(ConfigError, match="labels with them"):
        predict_file(root / "run", root / "flat", comm, labels=root / "new.csv")
    with pytest.raises(ConfigError, match="takes texts"):
        predict_file(root / "run", root / "flat", comm, overrides=["data.format=svmlight"])
    damaged(comm, root / "run" / "model")


def damaged(comm, model) -> None:
    """A vocabulary that is not the model's is refused."""
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "rows of weighted terms" in card
    assert "text-classification" in card
    comm.Barrier()
    if comm.rank == 0:
        stored = model / "text.json"
        content = stored.read_text(encoding="utf-8")
        stored.write_text(content.replace("ship", "shop"), encoding="utf-8")
        with pytest.raises(InputError, match="not the vocabulary"):
            hpcembed.load(model)
        stored.unlink()
        with pytest.raises(InputError, match=r"text\.json: No such file"):
            hpcembed.load(model)


@pytest.mark.parametrize("has_relevance", [False, True])
def test_stored_form(has_relevance):
    vocabulary = Vocabulary(["aa", "über"], [2, 1], [5, 1], 3)
    relevance = np.array([1 / 3, 0.1]) if has_relevance else None
    weights = TermWeights("tfidf", sublinear_tf=True, smooth_idf=False, norm="none")
    before = Vectoriser(vocabulary, weights, relevance, TextRules("remove", "remove", "latin-1"))
    text = vectoriser_to_json(before)
    after = vectoriser_from_json(text)
    rows = ["aa aa über zz", ""]
    np.testing.assert_array_equal(before.transform(rows).toarray(), after.transform(rows).toarray())
    assert (after.rules, after.weights) == (before.rules, weights)
    assert after.vocabulary.n_documents == 3
    assert after.vocabulary.term_frequencies.tolist() == [5, 1]
    content = json.loads(text)
    for key, value in (
        ("format", "other"), ("version", 2), ("token", "x"), ("terms", ["b", "a"]),
        ("rules", {"odd": 1}), ("relevance", [1.0]), ("relevance", [1.0, "x"]), ("weights", 3),
    ):  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011 (whatever the reason)
            vectoriser_from_json(json.dumps({**content, key: value}))
    with pytest.raises(ValueError):  # noqa: PT011
        vectoriser_from_json("[]")
