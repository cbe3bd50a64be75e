"""Model of scaling, and the script that measures its terms."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scaling_model

    yield scaling_model
    sys.modules.pop("scaling_model", None)


@pytest.fixture
def network(model):
    """A second a message, a byte a second, half a second a rank."""
    return model.Network(alpha=1.0, bandwidth=1.0, overhead=0.5)


def work(model, **changes):
    usual = {"rows": 10**9, "features": 10**6, "row_seconds": 15.0}
    return model.Work(**usual | {"column_seconds": 0.0, "serial_seconds": 0.0} | changes)


def test_messages_cost_what_the_table_says(model, network):
    assert [model.levels(P) for P in (1, 2, 3, 4, 5, 1024)] == [0, 1, 2, 2, 3, 10]
    assert network.broadcast(8, 4) == 2 * (1 + 8)
    assert network.broadcast(1e6, 1024) == 10 + 1023 + 2e6
    assert network.reduction(8, 4) == 2 * (1 + 8)
    assert network.reduction(100, 16) == 2 * 4 + 200
    assert network.spread(8, 4) == 2 + 8
    assert network.number_to_all(4) == 2 + 4 * 0.5
    assert network.rows_to_all(8, 4) == 3 * 0.5 + 1 + 8 + 18


def test_one_rank_sends_nothing(model, network):
    one = work(
        model, widths=[3, 4], reductions=9, reduction_bytes=80, triangle_bytes=800,
        column_seconds=2, serial_seconds=1,
    )  # fmt: skip
    cost = model.predicted(one, network, 1)
    assert cost.total == one.alone == 18
    assert model.efficiency(one, cost) == 1
    assert cost.largest == "rows"


def test_terms_add_up(model, network):
    one = work(
        model, features=2, widths=[1, 3], reductions=5, reduction_bytes=8, triangle_bytes=24,
        column_seconds=8, serial_seconds=1,
    )  # fmt: skip
    cost = model.predicted(one, network, 4)
    counts = 2 * network.number_to_all(4) + network.reduction(8, 4)
    assert cost.gather == network.rows_to_all(16, 4) + network.rows_to_all(48, 4) + 2 * counts
    assert cost.reduce == network.spread(16, 4) + network.spread(48, 4) + network.reduction(24, 4)
    assert cost.orthogonalisation == 5 * network.reduction(8, 4)
    assert cost.rows == 15 / 4
    assert cost.columns == 8 / 2  # a column of two numbers is shared by two ranks
    assert cost.serial == 1
    parts = (cost.rows, cost.columns, cost.serial, cost.gather, cost.reduce)
    assert cost.total == sum(parts) + cost.orthogonalisation
    together = model.predicted(one, network, 4, collective=True)
    assert together.gather == network.spread(16, 4) + network.spread(48, 4)


def test_limits_are_those_of_amdahl_where_messages_cost_nothing(model):
    free = model.Network(alpha=0.0, bandwidth=float("inf"), overhead=0.0)
    # 16 / (15 + P) is at least a half up to 17 ranks
    assert model.strong_limits(work(model, serial_seconds=1.0), free)[0] == 16
    assert model.strong_limits(work(model), free) == (2**17, 2**17)
    assert model.weak_limit(work(model, serial_seconds=1.0), free) == 2**17


def test_a_loop_over_ranks_ends_weak_scaling(model):
    loop = model.Network(alpha=0.0, bandwidth=float("inf"), overhead=0.1)
    one = work(model, widths=[1])
    # a product costs (P - 1 + 2 P) / 10 s, which is 15 s at 50 ranks
    assert model.weak_limit(one, loop) == 32
    assert model.weak_limit(one, loop, collective=True) == 2**17


def test_more_rows_take_longer_and_send_no_more(model, network):
    one = work(model, rows=100, widths=[2], column_seconds=3)
    ten = one.scaled(10)
    assert (ten.rows, ten.row_seconds, ten.column_seconds) == (1000, 150, 3)
    assert model.predicted(ten, network, 8).gather == model.predicted(one, network, 8).gather


@pytest.mark.launch
def test_the_script_measures_counts_and_writes(run_mpi, tmp_path):
    script = str(BENCHMARKS / "scaling.py")
    words = ["--ranks", "1", "2", "--rows", "600", "--features", "40", "--k", "3"]
    words += ["--repeats", "1", "--json", "runs.json", "--page", "scaling.md", "--note", "A test."]
    oversubscribe = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    done = run_mpi(0, script, *words, timeout=240, env=oversubscribe)
    assert done.status == 0, done.err
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [run["ranks"] for run in runs["strong"]] == [1, 2]
    assert [run["rows"] for run in runs["strong"]] == [600, 600]
    assert [run["rows"] for run in runs["weak"]] == [300, 600]
    for run in runs["strong"] + runs["weak"]:
        assert run["engine"] == "block"
        assert run["largest_residual"] < 1e-6
        assert run["widths"][-1] >= 3  # the certificate
        assert run["n_reductions"] > 0
    # the same rows and the same start, so the same messages
    assert runs["strong"][0]["widths"] == runs["strong"][1]["widths"]
    page = (tmp_path / "scaling.md").read_text()
    assert "A test." in page
    assert f"* Products: {len(runs['strong'][0]['widths'])}:" in page
    assert "| 100000 |" in page
    assert "the efficiency is below 50 % beyond" in page
