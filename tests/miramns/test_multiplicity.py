"""Copies of multiple eigenvalues, which one Krylov space does not hold."""

import numpy as np
import pytest

from miramns import Options, multiplicity, solve

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("copies", [3, 5])
@pytest.mark.parametrize("decay", [0.5, 2.0])
def test_missing_copies_are_found(operators, symmetric, copies, decay):
    values = np.r_[np.full(copies, 3.0), np.arange(1.0, 200.0) ** -decay]
    result = solve(operators(symmetric(values)), copies + 1, hermitian=True, tol=1e-6)
    np.testing.assert_allclose(result.eigenvalues, values[: copies + 1], atol=1e-9)
    assert result.multiplicity_checked
    assert result.converged
    assert result.orthogonality < 1e-12
    assert result.n_found_missing > 0


def test_without_the_check_copies_are_missing(operators):
    values = np.r_[np.ones(3), 0.7 ** np.arange(1, 200)]
    A = operators(diagonal=values)
    unchecked = solve(A, 5, hermitian=True, tol=1e-6, options=Options(multiplicity_check="never"))
    assert unchecked.converged
    assert not unchecked.multiplicity_checked
    assert unchecked.n_found_missing == 0
    assert unchecked.eigenvalues[2] < 0.9, "nothing for the check to find"
    assert "not searched to the end" in unchecked.view()
    checked = solve(A, 5, hermitian=True, tol=1e-6)
    np.testing.assert_allclose(checked.eigenvalues, values[:5], atol=1e-9)
    assert f"the multiplicity check computed {checked.n_found_missing} more pairs" in checked.view()
    assert checked.n_certificate_matvec > unchecked.n_certificate_matvec


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_copies_at_the_cut_are_no_loss(operators, which):
    values = np.r_[2.0, 1.0, 1.0, 1.0, np.linspace(-0.5, 0.5, 200), -1.0, -1.0, -2.0]
    result = solve(operators(diagonal=values), 2, which=which, hermitian=True)
    expected = {"LM": [2, -2], "LA": [2, 1], "SA": [-2, -1], "BE": [2, -2]}[which]
    np.testing.assert_allclose(result.eigenvalues, expected, atol=1e-9)
    assert result.multiplicity_checked
    assert result.n_found_missing == 0


def test_a_whole_space_that_was_found_is_checked(operators):
    result = solve(operators(diagonal=np.array([2.0, 2.0, 1.0])), 3, hermitian=True)
    np.testing.assert_allclose(result.eigenvalues, [2, 2, 1], atol=1e-12)
    assert result.multiplicity_checked


def test_start_vector_without_a_wanted_direction(operators):
    values = np.r_[9.0, np.linspace(0, 1, 199)]
    A = operators(diagonal=values)
    first, last = A.getOwnershipRange()
    start = np.ones(200)
    start[0] = 0.0
    result = solve(A, 2, hermitian=True, start=start[first:last])
    np.testing.assert_allclose(result.eigenvalues[0], 9.0)
    assert result.n_found_missing == 1


def test_auto_gives_up_on_a_slow_search_and_says_so(operators):
    values = 2 - 2 * np.cos(np.pi * np.arange(1, 151) / 151)
    A = operators(diagonal=values)
    auto = solve(A, 2, which="LA", hermitian=True, tol=1e-6)
    assert auto.converged
    assert not auto.multiplicity_checked
    always = solve(
        A, 2, which="LA", hermitian=True, tol=1e-6, options=Options(multiplicity_check="always")
    )
    assert always.multiplicity_checked
    assert always.n_certificate_matvec > auto.n_certificate_matvec


@pytest.mark.parametrize("orthogonalization", ["full", "partial", "dcgs2"])
def test_auto_spends_what_it_may_and_no_product_more(operators, orthogonalization):
    values = 2 - 2 * np.cos(np.pi * np.arange(1, 401) / 401)
    result = solve(
        operators(diagonal=values),
        4,
        which="LA",
        hermitian=True,
        ncv=60,
        max_it=2000,
        options=Options(orthogonalization=orthogonalization),
    )
    assert not result.multiplicity_checked
    least = multiplicity._AUTO_LEAST_LONG if orthogonalization == "partial" else 80
    budget = max(int(multiplicity._AUTO_SHARE * result.n_matvec), least)
    unchecked = solve(
        operators(diagonal=values),
        4,
        which="LA",
        hermitian=True,
        ncv=60,
        max_it=2000,
        options=Options(orthogonalization=orthogonalization, multiplicity_check="never"),
    )
    assert result.n_certificate_matvec - unchecked.n_certificate_matvec == budget


def test_deflated_pairs_are_not_found_again(operators):
    values = np.r_[5.0, 4.0, 3.0, np.linspace(0, 1, 97)]
    A = operators(diagonal=values)
    first, last = A.getOwnershipRange()
    result = solve(A, 2, hermitian=True, options=Options(deflation=np.eye(100)[first:last, :1]))
    np.testing.assert_allclose(result.eigenvalues, [4, 3], atol=1e-9)
    assert result.multiplicity_checked


def test_copies_at_the_lower_of_both_ends(operators):
    values = np.r_[5.0, 4.0, 0.7 ** np.arange(1, 150), -4.0, -4.0, -4.0]
    result = solve(operators(diagonal=values), 6, which="BE", hermitian=True, tol=1e-6)
    np.testing.assert_allclose(result.eigenvalues, [5, -4, 4, -4, 0.7, -4], atol=1e-6)
    assert result.multiplicity_checked
