"""The sentences and numbers of a headline, computed by hand."""

import pytest

from hpcembed.jobs.study.headline import headline, headline_record, saved_parameters
from hpcembed.jobs.study.settings import StudyConfig, SweepConfig
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.jobs.study.trials import Trial, TrialResult
from hpcembed.jobs.study.wording import lead_paragraphs, summary_text

#: Validation and test scores of two seeds, by input, hidden layers, k and parameters.
SCORES = {
    ("full", (64,), 50, 4000): ((0.95, 0.96), (0.93, 0.93)),
    ("full", (8,), 50, 500): ((0.94, 0.95), (0.92, 0.92)),
    ("spectral", (8,), 5, 150): ((0.95, 0.96), (0.925, 0.925)),
    ("spectral", (64,), 5, 400): ((0.95, 0.96), (0.925, 0.925)),
}
DATASET = {"class_names": ["a", "b"], "n_train": 900, "n_test": 100}


def summary(without=(), margin=1.0, **facts):
    results = [
        TrialResult(f"{key}{seed}", Trial(kind, hidden, k, seed), n, 1.0, 0.1, v, t, 1, ())
        for key, (validation, test) in SCORES.items()
        for (kind, hidden, k, n) in [key]
        if (kind, hidden) not in without
        for seed, (v, t) in enumerate(zip(validation, test, strict=True))
    ]
    study = StudyConfig(study=SweepConfig(seeds=2, margin=margin))
    return StudySummary(study, results, 50, **facts)


def test_every_sentence_of_the_headline():
    found = summary()
    assert headline(found, found.compression) == [
        "8 on 5 components of 50 features keeps the accuracy within 1 point of the baseline, 64 on "
        "all features: +0.00 [+0.00, +0.00] points on validation rows",
        "test accuracy 92.50 ± 0.00 %, baseline 93.00 ± 0.00 %: difference -0.50 [-0.50, -0.50] "
        "points (95 % interval, 2 seeds), within 1 point",
        "the same network on all features: 92.00 ± 0.00 %, -1.00 [-1.00, -1.00] points from the "
        "baseline; the embedding changes it by +0.50 [+0.50, +0.50] points",
        "parameters: 4,000 -> 400 with the projection, 10.0 times fewer: a factor of 8.0 is that "
        "of the smaller network on all features, and 1.2 of the embedding; 150 without the "
        "projection, 26.7 times fewer",
    ]


def test_the_headline_is_the_same_everywhere():
    found = summary()
    text, lead = summary_text(found), lead_paragraphs(found, DATASET)
    record = headline_record(found, found.compression)
    assert record["headline"] == headline(found, found.compression)
    assert len(lead) == 5
    for sentence, paragraph in zip(record["headline"], lead[1:], strict=True):
        assert sentence in text
        assert paragraph.lower() == f"{sentence}.".lower()


def test_every_number_of_the_record():
    found = summary()
    record = headline_record(found, found.compression)
    assert (record["same_network"]["input"], record["same_network"]["hidden"]) == ("full", "8")
    assert record["test_difference_same_network"].mean == pytest.approx(0.005)
    assert record["test_difference_of_network"].mean == pytest.approx(-0.01)
    assert record["parameters"] == {
        "baseline": 4000, "same_network": 500, "network": 150, "with_projection": 400,
    }  # fmt: skip
    assert record["saving"] == {"total": 10.0, "of_network": 8.0, "of_embedding": 1.25}


def test_the_same_network_is_missing_or_the_baseline():
    partial = summary(without=[("full", (8,))])
    record = headline_record(partial, partial.compression)
    assert record["headline"][2] == "the same network on all features is not trained yet"
    assert record["headline"][3].startswith("parameters: 4,000 -> 400 with the projection, 10.0 ti")
    assert "factor" not in record["headline"][3]
    assert record["same_network"] is None
    assert record["saving"] == {"total": 10.0, "of_network": None, "of_embedding": None}
    equal = summary(without=[("full", (8,)), ("spectral", (8,))])
    _, _, same, saved = headline(equal, equal.compression)
    assert same.startswith("the baseline is the same network on all features, so")
    assert "4,000 -> 650 with the projection, 6.2 times fewer, all of it by the embedding" in saved


def test_a_loss_on_test_rows_is_stated():
    found = summary(margin=0.4)
    assert headline(found, found.compression)[1].endswith("NOT within 0.4 points")
    none = summary(without=[("spectral", (64,)), ("full", (8,))], margin=0.0)
    assert headline(none, none.compression)[0].startswith(
        "no model is known to keep the accuracy within 0 points of the baseline, 64 on all "
        "features; the nearest one is 8 on 5 components of 50 features: "
    )


def test_without_a_projection_its_numbers_are_not_counted():
    found = summary(is_linear=False)
    assert saved_parameters(found, found.compression).text() == (
        "parameters: 4,000 -> 150 without the embedding, which is not a projection, 26.7 times "
        "fewer"
    )
