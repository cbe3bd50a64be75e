"""Rivals beside the embedding: pairs, intervals that hold together, fewer coordinates, answer."""

import numpy as np
import pytest
from scipy import stats

from hpcembed.jobs.study.figures import StudyFigures
from hpcembed.jobs.study.rivals.comparison import compare_rivals
from hpcembed.jobs.study.rivals.wording import (
    answer_text,
    rival_columns,
    rival_record,
    rivals_table,
)
from hpcembed.jobs.study.settings import StudyConfig, SweepConfig
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.jobs.study.trials import Trial, TrialResult

HIDDEN = (8,)
#: Test scores of the seeds by input and number of inputs.
SCORES = {
    ("full", 50): (0.95, 0.96, 0.94),
    ("spectral", 3): (0.80, 0.81, 0.79),
    ("spectral", 9): (0.90, 0.91, 0.90),
    ("lda", 2): (0.93, 0.945, 0.93),
    ("dct", 3): (0.70, 0.72, 0.71),
    ("dct", 9): (0.90, 0.905, 0.90),
}


def summary(scores=SCORES, seeds=3, rivals=("lda", "dct"), **facts):
    results = [
        TrialResult(
            f"{key}{seed}", Trial(key[0], HIDDEN, key[1], seed), 9, 1.0, 0.1, one, one, 1, ()
        )
        for key, values in scores.items()
        for seed, one in enumerate(values[:seeds])
    ]
    sweep = SweepConfig(dimensions=(3, 9), rivals=rivals, seeds=seeds)
    facts = {"rival_limits": {"lda": 2, "dct": 50}, "fit_seconds": {"lda": {2: 0.5}}, **facts}
    return StudySummary(StudyConfig(study=sweep), results, 50, embedding_seconds=0.25, **facts)


def test_pairs_and_intervals_that_hold_together():
    found = summary().rivals
    names = [(point.input, point.dimension, point.n_inputs) for point in found.points]
    assert names == [
        ("spectral", 3, 3), ("lda", 3, 2), ("dct", 3, 3),
        ("spectral", 9, 9), ("lda", 9, 2), ("dct", 9, 9),
    ]  # fmt: skip
    lda = next(point for point in found.points if (point.input, point.dimension) == ("lda", 9))
    difference = np.subtract(SCORES["lda", 2], SCORES["spectral", 9])
    # two rivals: each interval has the confidence 97.5 %
    half = stats.t.ppf(1 - 0.025 / 2, 2) * difference.std(ddof=1) / np.sqrt(3)
    assert lda.difference.mean == pytest.approx(difference.mean())
    assert lda.difference.low == pytest.approx(difference.mean() - half)
    assert lda.difference.high == pytest.approx(difference.mean() + half)
    assert (lda.n_seeds, lda.hidden) == (3, HIDDEN)
    assert lda.test_mean == pytest.approx(np.mean(SCORES["lda", 2]))
    assert lda.test_deviation == pytest.approx(np.std(SCORES["lda", 2], ddof=1))
    assert (found.hidden, found.dimension, found.confidence) == (HIDDEN, 9, 0.95)
    assert [point.input for point in found.answer] == ["lda", "dct"]
    assert len(found.of_network) == 6


def test_one_rival_has_the_confidence_of_the_study():
    found = summary(rivals=("lda",)).rivals
    difference = np.subtract(SCORES["lda", 2], SCORES["spectral", 9])
    low, high = stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference))
    assert found.answer[0].difference.low == pytest.approx(low)
    assert found.answer[0].difference.high == pytest.approx(high)


def test_rivals_do_not_change_the_headline():
    with_rivals, alone = summary(), summary(rivals=())
    assert alone.rivals is None
    assert with_rivals.points == alone.points
    assert with_rivals.compression == alone.compression
    assert {point.input for point in with_rivals.points} == {"full", "spectral"}
    also = StudySummary(
        StudyConfig(study=SweepConfig(embeddings=("spectral", "gaussian"), rivals=("gaussian",))),
        [TrialResult("a", Trial("gaussian", HIDDEN, 3, 0), 9, 1.0, 0.1, 0.5, 0.5, 1, ())],
        50,
    )
    assert [point.input for point in also.points] == ["gaussian"]
    assert also.rivals is None  # nothing to compare with


def test_the_answer():
    one = summary()
    assert answer_text(one, one.rivals) == (
        "At k = 9, with the network 8, lda (2 coordinates) is better than pca by +3.17 "
        "[+2.13, +4.20] points of test accuracy (95 % intervals that hold for 2 rivals together)."
    )
    worse = summary({**SCORES, ("lda", 2): (0.3, 0.31, 0.3)})
    text = answer_text(worse, worse.rivals)
    assert text.startswith(
        "At k = 9, with the network 8, no rival is better than pca in test accuracy "
        "(95 % intervals that hold for 2 "
    )
    assert "the best mean is that of dct, -0.17 [-1.20, +0.87] points from pca" in text
    assert text.endswith("and its interval contains zero.")
    lower = summary({**SCORES, ("lda", 2): (0.3, 0.31, 0.3)}, rivals=("lda",))
    text = answer_text(lower, lower.rivals)
    assert "in test accuracy (95 % interval);" in text
    assert text.endswith("and its interval is below zero.")
    both = summary({**SCORES, ("dct", 9): (0.95, 0.96, 0.95)})
    text = answer_text(both, both.rivals)
    assert "dct and lda (2 coordinates) are better than pca: dct by +5.00 [" in text
    single = summary(seeds=1)
    assert "one seed gives no interval" in answer_text(single, single.rivals)
    missing = {key: value for key, value in SCORES.items() if key[0] not in ("lda", "dct")}
    none = summary(missing)
    assert "no rival projection is trained yet" in answer_text(none, none.rivals)


def test_table_and_record():
    one = summary()
    table = rivals_table(one, one.rivals)
    assert table.headings[-1] == "difference to pca"
    assert list(table.rows[0]) == ["3", "pca", "3", "rows", "0.25", "80.00 ± 1.00", "-"]
    assert list(table.rows[1][:5]) == ["3", "lda", "2", "rows and labels", "0.50"]
    assert list(table.rows[2][:5]) == ["3", "dct", "3", "nothing", "-"]
    columns = rival_columns(one, one.rivals)
    assert columns["dimension"] == [3, 3, 3, 9, 9, 9]
    record = rival_record(one)
    assert record["answer"] == answer_text(one, one.rivals)
    assert record["points"][4]["input"] == "lda"
    assert record["points"][4]["difference_low"] == one.rivals.points[4].difference.low
    assert (record["hidden"], record["dimension"], record["confidence"]) == ("8", 9, 0.95)
    assert rival_record(summary(rivals=())) is None


def test_figure():
    written = []

    class Writer:
        def write(self, name, figure, data, caption):
            written.append((name, figure, data, caption))
            return caption

    StudyFigures(Writer(), summary(), None).rivals_figure()
    (name, figure, data, caption) = written[0]
    assert name == "rivals"
    assert [axes.get_title() for axes in figure.axes] == ["k = 3", "k = 9"]
    assert figure.get_suptitle() == "digits, network 8: rival projections and pca"
    # panels below each other are legible at 400 pixels
    upper, lower = figure.axes
    assert upper.get_position().x0 == lower.get_position().x0
    assert figure.get_figwidth() <= 6.4
    labels = [text.get_text() for text in lower.get_yticklabels()]
    assert labels == ["lda (2)", "dct"]
    assert data["input"].count("lda") == 2
    assert "from pca" in caption
    assert StudyFigures(Writer(), summary(seeds=1), None).rivals_figure() == []
    assert StudyFigures(Writer(), summary(rivals=()), None).rivals_figure() == []


def test_an_unfinished_rival_is_left_out():
    scores = {key: value for key, value in SCORES.items() if key != ("dct", 9)}
    found = compare_rivals(summary(scores).results, ["dct"], (3, 9), {"dct": 50}, 0.95)
    assert [(p.input, p.dimension) for p in found.points] == [
        ("spectral", 3), ("dct", 3), ("spectral", 9),
    ]  # fmt: skip
