"""Verdict on answers: exact, approximate, wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpcembed.bench.data_sets import load, parse
from hpcembed.bench.methods import PcaAnswer
from hpcembed.bench.reference import Covariance, reference_of
from hpcembed.bench.verdict import EXACT, measure, verdict

HERE = Path()


@pytest.fixture
def case():
    """Covariance, reference, the optimal answer and its coordinates."""
    C = Covariance(load(parse("generated:200x30:float64"), HERE, 0))
    reference = reference_of(C, 3)
    V = reference.vectors
    coordinates = (C.rows - C.mean) @ V
    return C, reference, PcaAnswer(V.T, reference.values, certified=1e-10), coordinates


def evaluated(case, **changes):
    C, reference, answer, coordinates = case
    coordinates = changes.pop("coordinates", coordinates)
    answer = replace(answer, **changes)
    measures = measure(C, answer, coordinates, reference)
    return (*verdict(measures, answer.certified, 3), measures)


def test_the_optimum_is_exact(case):
    status, why, measures = evaluated(case)
    assert (status, why) == ("exact", "")
    assert abs(measures.deficit) < 1e-14
    assert measures.sin_angle < 1e-7
    assert measures.residual < 1e-13
    assert measures.orthogonality < 1e-13


def turned(case, angle):
    """Return the changes that turn the last direction into the complement of the others."""
    C, reference, *_ = case
    _, vectors = np.linalg.eigh(C.dense())
    last = np.cos(angle) * reference.vectors[:, 2] + np.sin(angle) * vectors[:, 0]
    V = np.column_stack([reference.vectors[:, :2], last])
    return {
        "components": V.T,
        "coordinates": (C.rows - C.mean) @ V,
        "variances": np.sum(V * C.times(V), axis=0),
        "certified": None,
    }


def test_components_that_capture_less_are_approximate(case):
    C, reference, *_ = case
    changes = turned(case, 0.02)
    status, why, measures = evaluated(case, **changes)
    assert (status, why) == ("approximate", "")
    captured = changes["variances"].sum() / reference.values.sum()
    assert captured < EXACT
    np.testing.assert_allclose(1 - measures.deficit, captured, rtol=1e-13)
    np.testing.assert_allclose(measures.sin_angle, np.sin(0.02), rtol=1e-10)
    gap = reference.values[2] - np.linalg.eigvalsh(C.dense())[0]
    expected = np.sin(0.02) * np.cos(0.02) * gap / reference.values[0]
    np.testing.assert_allclose(measures.residual, expected, rtol=1e-9)
    assert evaluated(case, **turned(case, 1e-5))[0] == "exact"


def test_a_residual_above_its_certificate_is_wrong(case):
    status, why, _ = evaluated(case, **turned(case, 1e-5) | {"certified": 1e-10})
    assert status == "wrong"
    assert "certified 1e-10" in why


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, _: {"components": a.components[:2]}, "2 of 3"),
        (lambda a, _: {"components": a.components[:, 1:]}, "0 of 3"),
        (lambda _, coordinates: {"coordinates": coordinates[1:]}, "0 of 3"),
        (lambda a, _: {"components": a.components * np.nan}, "not finite"),
        (lambda a, _: {"variances": a.variances * np.inf}, "not finite"),
        (lambda a, _: {"components": a.components * 2}, "orthogonality"),
        (lambda a, _: {"components": a.components[[0, 0, 1]]}, "orthogonality"),
        (lambda a, _: {"components": np.eye(30)[:3], "variances": None}, "captures"),
        (lambda a, _: {"variances": a.variances * 2}, "variances off"),
        (lambda _, coordinates: {"coordinates": coordinates + 1}, "coordinates off"),
        (lambda _, coordinates: {"coordinates": coordinates * np.nan}, "coordinates off"),
        (lambda a, _: {"centred": False}, "coordinates off"),
    ],
)
def test_wrong_answers_are_wrong(case, change, words):
    status, why, _ = evaluated(case, **change(*case[2:]))
    assert status == "wrong"
    assert words in why


def test_variances_need_not_be_reported(case):
    status, _, measures = evaluated(case, variances=None)
    assert status == "exact"
    assert measures.residual < 1e-13
