"""Short representations of a result."""

import numpy as np

from miramns import ConvergedReason
from miramns.result import EigenResult


def result(k):
    return EigenResult(
        np.arange(k, 0.0, -1.0), np.zeros((1000, k)), (0, 1000), np.full(k, 1e-12),
        np.full(k, 1e-10), np.full(k, 1e-12), 1.0, 1e-15, ConvergedReason.CONVERGED_TOL,
        "method <b>",
    )  # fmt: skip


def test_representation_is_one_short_line():
    assert repr(result(2)) == (
        "<EigenResult: 2 of 2 eigenpairs converged, CONVERGED_TOL, eigenvalues 2, 1>"
    )
    text = repr(result(500))
    assert text.endswith("eigenvalues 500, 499, 498, ...>")
    assert len(text) < 120


def test_notebooks_show_a_table_of_the_leading_pairs():
    html = result(500)._repr_html_()
    assert html.count("<tr>") == 11
    assert "and 490 more eigenpairs" in html
    assert "method &lt;b&gt;" in html
    assert "more" not in result(10)._repr_html_()
