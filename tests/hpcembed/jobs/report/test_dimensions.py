"""Words of the diagnostics of the dimension."""

import math

from hpcembed.jobs.report.dimensions import (
    DimensionsRecord,
    EstimateRecord,
    IntervalRecord,
    IntrinsicRecord,
    SpectrumRecord,
    SuggestedSizeRecord,
    dimensions_line,
    dimensions_note,
    dimensions_table,
)


def record(n_known=20, high=30.0, value=12.34, n_duplicates=0, n_queries=900, n_all=900):
    known = IntervalRecord(6.0, 6.0)
    return DimensionsRecord(
        SpectrumRecord(known, IntervalRecord(20.0, high), IntervalRecord(9.01, 9.04), known,
                       n_known, 64),
        [
            SuggestedSizeRecord("marchenko_pastur", 1234, 1234),
            SuggestedSizeRecord("gavish_donoho", None, 20, reason="more"),
            SuggestedSizeRecord("minka", 60, 60),
        ],
        IntrinsicRecord(
            EstimateRecord(value, 0.0512, (11.0, 11.4)),
            EstimateRecord(14.06, math.nan, (math.nan, math.nan)),
            20, n_queries, 900, n_all, 50, n_duplicates, 0.1,
        ),
        0.2,
    )  # fmt: skip


def test_line():
    assert dimensions_line(None) == ""
    assert dimensions_line(DimensionsRecord(None, [], None, 0.1)) == ""
    assert dimensions_line(record()) == (
        "dimensions: effective rank 20.0 to 30.0, participation ratio 9.0, stable rank 6.0, "
        "intrinsic dimension 12.3 ± 0.05 (MLE), 14.1 (TwoNN)"
    )
    for value in (math.nan, None):
        line = dimensions_line(record(high=41.0, value=value))
        assert "effective rank" not in line
        assert line.endswith("intrinsic dimension 14.1 (TwoNN)")


def test_table_omits_what_does_not_help():
    table = dimensions_table(record(high=41.0), "30 (64-64)", 50)
    assert [row[:2] for row in table.rows] == [
        ("participation ratio", "9.0"),
        ("stable rank", "6.0"),
        ("Marchenko-Pastur edge", "1,234"),
        ("Minka's evidence", "60"),
        ("intrinsic dimension, MLE", "12.3 ± 0.05"),
        ("intrinsic dimension, TwoNN", "14.1"),
        ("smallest k without loss", "30 (64-64)"),
    ]
    assert "from 20 neighbours" in table.rows[4][2]
    assert table.rows[-1][2].endswith("up to k = 50")
    assert dimensions_table(record(), "", 50).rows[-1][0] == "intrinsic dimension, TwoNN"
    assert dimensions_table(DimensionsRecord(None, [], None, 0.1), "3 (8)", 5).rows == []


def test_note():
    note = dimensions_note(record(n_duplicates=3, n_queries=500))
    assert "all 64 eigenvalues; they follow from 20 of them and the total variance" in note
    assert (
        "in 50 coordinates, from the neighbours of 500 training rows among 900; 3 of them equal "
        "another row; ± is"
    ) in note
    assert "With half of the rows the MLE is 11.2." in note
    whole = dimensions_note(record(n_known=64))
    assert whole.startswith("From all 64 eigenvalues. Intrinsic dimension in 50 coordinates, from")
    assert "of 900 training rows; ±" in whole
    assert "900 training rows among 900 drawn; ±" in dimensions_note(record(n_all=60_000))
    assert dimensions_note(DimensionsRecord(None, [], None, 0.1)).startswith("No diagnostic uses")
