"""Phrases of reports: every number and name that they state."""

from __future__ import annotations

import math

import numpy as np

from hpcembed.jobs.report.wording import (
    certification_line,
    majority_warning,
    percent,
    points,
    seconds_line,
)


def test_sampled_bounds_are_named():
    line = certification_line(
        np.array([4.0, 1.0]), np.full(2, 4e-8), np.ones(2), 1e-15, failure_probability=1e-8
    )
    assert line == (
        "certified: 2 of 2 eigenpairs, residuals at most 1.0e-08 of lambda_1 "
        "(sampled, fails with probability 1e-08), |V'V-I| 1e-15"
    )


def test_a_certified_run():
    line = certification_line(
        np.array([2.0, 1.0]), np.array([6.2e-11, 1e-12]), np.full(2, 1e-10), 2.2e-15,
        reference_solver="Krylov-Schur", reference_sin_angle=4e-9,
    )  # fmt: skip
    assert line == (
        "certified: 2 of 2 eigenpairs, largest true residual 3.1e-11 of lambda_1, "
        "|V'V-I| 2e-15, largest angle to Krylov-Schur 4e-09"
    )


def test_the_largest_eigenvalue_is_by_modulus():
    line = certification_line(np.array([-4.0, 1.0]), np.full(2, 4e-3), np.ones(2), 0.0)
    assert "1.0e-03 of lambda_1" in line


def test_unconverged_pairs_are_named_from_one():
    line = certification_line(
        np.array([3.0, 2.0, 1.0]), np.array([1e-12, 1e-3, np.nan]), np.full(3, 1e-10), 0.0
    )
    assert line.startswith("NOT certified: 1 of 3 eigenpairs, ")
    assert line.endswith("; unconverged: 2, 3")


def test_a_nan_residual_does_not_hide_the_others():
    line = certification_line(
        np.array([2.0, 1.0]), np.array([2e-3, np.nan]), np.full(2, 1e-10), 0.0
    )
    assert "largest true residual nan" in line


def test_pairs_that_were_never_found_are_unconverged():
    line = certification_line(np.ones(2), np.zeros(2), np.ones(2), 0.0, n_requested=4)
    assert line.startswith("NOT certified: 2 of 4 eigenpairs")
    assert line.endswith("; unconverged: 3, 4")


def test_many_unconverged_pairs_are_counted():
    line = certification_line(np.ones(50), np.ones(50), np.zeros(50), 0.0)
    assert line.endswith("; unconverged: 1, 2, 3, 4, 5, 6, 7, 8 and 42 more")


def test_a_reference_with_a_larger_eigenvalue_takes_the_certificate_away():
    line = certification_line(
        np.array([3.0, 1.0]), np.zeros(2), np.ones(2), 0.0,
        reference_solver="Krylov-Schur", reference_sin_angle=1.0, exceeded=(1,),
    )  # fmt: skip
    assert line.startswith("NOT certified: 1 of 2 eigenpairs")
    assert line.endswith("; Krylov-Schur has a larger eigenvalue: 2")


def test_a_reference_with_fewer_pairs_is_stated():
    def line(n_compared, angle):
        return certification_line(
            np.ones(3), np.zeros(3), np.ones(3), 0.0,
            reference_solver="Lanczos", reference_sin_angle=angle, n_compared=n_compared,
        )  # fmt: skip

    assert line(3, 1e-9).endswith(", largest angle to Lanczos 1e-09")
    assert line(2, 1e-9).endswith(", largest angle to Lanczos (2 pairs) 1e-09")
    assert line(0, math.nan).endswith(", Lanczos found no pair to compare with")
    assert "NOT" not in line(0, math.nan)


def test_nothing_found_and_the_zero_operator():
    assert certification_line(np.empty(0), np.empty(0), np.empty(0), 0.0, n_requested=1) == (
        "NOT certified: 0 of 1 eigenpairs; unconverged: 1"
    )
    assert certification_line(np.zeros(1), np.zeros(1), np.ones(1), 0.0) == (
        "certified: 1 of 1 eigenpairs, largest true residual 0.0e+00, |V'V-I| 0e+00"
    )


def test_seconds_add_up():
    assert seconds_line({"read": 0.125, "solve": 12.345, "train": 250.4}) == (
        "seconds: read 0.12, solve 12.3, train 250; total 263"
    )


def test_accuracies_and_differences_as_text():
    assert percent(0.97123, 0.0008) == "97.12 ± 0.08"
    assert percent(0.97123) == "97.12"
    assert percent(math.nan) == "-"
    assert points(-0.00131, -0.0025, -0.0001) == "-0.13 [-0.25, -0.01]"
    assert points(0.002) == "+0.20"


def test_networks_that_have_not_learnt_are_named():
    learnt = majority_warning("8 on 2 inputs", 0.51, 0.51, (0.5, 0.5))
    equal = majority_warning("8 on 2 inputs", 0.5, 0.9, (0.5, 0.5))
    both = majority_warning("8 on 2 inputs", 0.4, 0.3, (0.5, 0.45), is_baseline=True)
    untested = majority_warning("8 on 2 inputs", 0.6, math.nan, (0.5, math.nan))
    assert learnt == untested == ""
    assert "validation 50.00 % (largest class 50.00 %)" in equal
    assert "test" not in equal
    assert "means nothing" not in equal
    assert "validation 40.00 % (largest class 50.00 %) and test 30.00 % (largest" in both
    assert "A comparison with it means nothing." in both
