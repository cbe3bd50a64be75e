"""Tables and text of a study, computed by hand."""

import math

import numpy as np
from scipy import stats

from hpcembed.jobs.report.wording import few_rows_warning
from hpcembed.jobs.study.published_accuracies import PublishedAccuracy
from hpcembed.jobs.study.settings import StudyConfig
from hpcembed.jobs.study.summary import StudySummary
from hpcembed.jobs.study.trials import Trial, TrialResult
from hpcembed.jobs.study.wording import compression_table, reproduction_text, summary_text

HIDDEN = (8,)
TEST = {"full": (0.92, 0.93), "spectral": (0.90, 0.92)}


def summary(**facts):
    results = []
    for kind, k, parameters, seconds in (("full", 50, 450, 4.0), ("spectral", 5, 90, 1.0)):
        for seed, test in enumerate(TEST[kind]):
            trial = Trial(kind, HIDDEN, k, seed)
            digest = f"{kind}{seed}"
            results.append(TrialResult(digest, trial, parameters, seconds, 0.1, test, test, 1, ()))
    return StudySummary(StudyConfig(), results, 50, **facts)


def test_rows_that_are_too_few_for_the_margin_are_told():
    text = summary_text(summary(n_rows=(1437, 360)))
    (line,) = [one for one in text.splitlines() if one.startswith("warning")]
    assert "each of 144 held-out rows corresponds to 0.694 points and each of 360 test rows" in line
    assert "corresponds to 0.278 points, more than the margin of 0.2, so" in line
    assert "warning" not in summary_text(summary(n_rows=(5000, 500)))
    assert few_rows_warning(5000, 499, 0.1, 0.002).startswith("warning: each of 499 test rows c")
    line = few_rows_warning(4, 1, 0.1, 0.005)
    assert (
        "the only held-out row corresponds to 100 points and the only test row corresponds to 100"
        in line
    )
    assert few_rows_warning(4, 1, 0.1, 0.0) == ""


def test_a_baseline_that_has_not_learnt_is_told():
    text = summary_text(summary(majority=(0.93, 0.5)))
    lines = [one for one in text.splitlines() if one.startswith("warning")]
    assert [line.partition(" has not")[0] for line in lines] == [
        "warning: network 8 on 50 inputs (full)",
        "warning: network 8 on 5 inputs (spectral)",
    ]
    assert ["means nothing" in line for line in lines] == [True, False]
    assert "warning" not in summary_text(summary(majority=(0.5, 0.5)))


def test_a_notebook_shows_the_tables():
    found = summary(embedding_seconds=1.0)
    shown = found._repr_html_()
    assert repr(found) == "<StudySummary: digits, 4 trained networks, 50 features>"
    assert shown.count("<table>") == shown.count("</table>") >= 3
    assert "<td>450</td>" in shown
    assert "|" not in shown


def test_the_model_beside_its_baseline():
    found = summary(embedding_seconds=1.0)
    rows = {row[0]: row[1:] for row in compression_table(found, found.compression).rows}
    assert rows["inputs"] == ("50", "5", "10.0x")
    assert rows["parameters with the projection"] == ("450", "340", "1.3x")
    assert rows["without the projection"] == ("450", "90", "5.0x")
    assert rows["training seconds"] == ("4.00", "1.00", "4.0x")
    assert rows["with the embedding"] == ("4.00", "2.00", "2.0x")
    assert rows["test accuracy %"] == ("92.50 ± 0.71", "91.00 ± 1.41", "")
    assert rows["points from the baseline"][0] == ""
    assert rows["points from the baseline"][1].startswith("-1.50 [")
    assert "with the embedding" not in dict.fromkeys(
        row[0] for row in compression_table(summary(), found.compression).rows
    )
    full, point = found.points
    assert (found.stored_numbers(full), found.stored_numbers(point)) == (450, 340)


def test_published_accuracies_are_counted():
    found = summary()
    interval = stats.t.ppf(0.975, 1) * np.std(TEST["spectral"], ddof=1) * math.sqrt(1.5)
    for theirs, reached, likely in (
        (0.9199, 2, 2),
        (0.9201, 1, 2),
        (0.91 + interval + 1e-6, 1, 1),
        (0.91 + interval - 1e-6, 1, 2),
    ):
        published = {HIDDEN: PublishedAccuracy((0.1, 0.1, 0.1, 0.1, theirs), 0.5)}
        text = reproduction_text(summary(published=published))
        assert text.startswith(f"{reached} of 2 published accuracies are reached")
        assert f"{likely} of 2 lie within or below the 95 % prediction interval" in text
        assert ("Not reached: 8 spectral k = 5 (91.00" in text) == (reached == 1)
    assert reproduction_text(found) == ""


def test_one_seed_has_no_interval():
    one = [TrialResult("a", Trial("spectral", HIDDEN, 1, 0), 9, 1.0, 0.1, 0.5, 0.5, 1, ())]
    published = {HIDDEN: PublishedAccuracy((0.4,), None)}
    text = reproduction_text(StudySummary(StudyConfig(), one, 50, published=published))
    assert text == "1 of 1 published accuracies are reached within 1.0 point or exceeded."
