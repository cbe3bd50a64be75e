"""The answer of a search in words: what the embedding saves, and test rows that contradict it."""

from types import SimpleNamespace

import numpy as np
import pytest

from hpcembed.jobs.compress.wording import AnswerComparison, dimensions_text, search_text
from hpcembed.jobs.report.dimensions import DimensionsRecord, IntervalRecord, SpectrumRecord
from hpcembed.jobs.report.scores import ACCURACY
from hpcembed.jobs.study.statistics import Difference


def point(kind, hidden, n_inputs, parameters):
    return SimpleNamespace(
        input=kind, hidden=hidden, n_inputs=n_inputs, parameters=parameters,
        validation_mean=0.9, test_mean=0.9, test_deviation=0.01,
    )  # fmt: skip


def text(n_stored, difference, verdict="keeps"):
    """The words for 8 at k = 5 of 20 features; the same network has 200 parameters."""
    validated = Difference(0.0, -0.005, 0.005)
    step = SimpleNamespace(
        hidden=(8,), n_inputs=5, n_seeds=5, difference=validated, verdict=verdict
    )
    answer = SimpleNamespace(hidden=(8,), n_inputs=5, n_seeds=5, verdict=verdict, steps=[step])
    spectrum = SimpleNamespace(
        unexplained=np.linspace(1.0, 0.0, 21), share=None, share_of="variance"
    )
    data = SimpleNamespace(n_features=20, embedding=SimpleNamespace(spectrum_=spectrum))
    trials = SimpleNamespace(
        components=SimpleNamespace(data=data), score=ACCURACY, margin=0.01, confidence=0.95,
        baseline=(64,), looks=[SimpleNamespace(n_seeds=5)],
    )  # fmt: skip
    one = AnswerComparison(
        point("spectral", (8,), 5, 80), point("full", (8,), 20, 200),
        point("full", (64,), 20, 4000), [], [], [], difference=difference,
        from_same=validated, of_network=validated, n_stored=n_stored,
    )  # fmt: skip
    return search_text(trials, answer, one, (0.1, 0.1), "")


WITHIN = Difference(0.0, -0.005, 0.005)
BELOW = Difference(-0.03, -0.04, -0.02)


def test_an_embedding_that_saves_nothing_is_named():
    sentence = "the embedding saves no parameters: 8 on all features has 200"
    assert sentence in text(400, WITHIN)
    assert "saves no parameters" not in text(180, WITHIN)
    assert "saves no parameters" not in text(None, WITHIN)


@pytest.mark.parametrize(
    ("verdict", "difference", "contradicted"),
    [("keeps", BELOW, True), ("keeps", WITHIN, False), ("undecided", BELOW, False)],
)
def test_test_rows_that_contradict_the_verdict_are_named(verdict, difference, contradicted):
    found = text(400, difference, verdict)
    assert ("NOT within 1 point, the test rows contradict the verdict" in found) == contradicted


def diagnostics(high):
    """A record whose only number has the bounds 4 and `high`."""
    one, wide = IntervalRecord(4.0, high), IntervalRecord(1.0, 9.0)
    return DimensionsRecord(SpectrumRecord(wide, one, wide, wide, 5, 20), [], None, 0.0)


@pytest.mark.parametrize(("verdict", "has_k"), [("keeps", True), ("undecided", False)])
def test_diagnostics_stand_beside_a_k_that_keeps_the_accuracy(verdict, has_k):
    answer = SimpleNamespace(hidden=(8,), n_inputs=5, verdict=verdict)
    found = dimensions_text(diagnostics(4.5), answer, 12)
    assert found.startswith("## How many dimensions?\n\n| diagnostic ")
    assert "| effective rank " in found
    assert "| 4.0 to 4.5 " in found
    assert ("| smallest k without loss | 5 (8) " in found) == has_k
    assert ("measured by trained networks, up to k = 12" in found) == has_k
    assert found.endswith("so none can replace the measured k.")


def test_diagnostics_that_do_not_help_are_left_out():
    answer = SimpleNamespace(hidden=(8,), n_inputs=5, verdict="undecided")
    assert dimensions_text(None, answer, 12) == ""
    assert dimensions_text(diagnostics(9.0), answer, 12) == ""
