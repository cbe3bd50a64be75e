"""The registry of formats: names, endings, and the labels of prediction input."""

from __future__ import annotations

import typing
from collections import Counter

import numpy as np
import pytest

from hpcembed.data.formats import FORMATS, format_of_name, open_input
from hpcembed.data.settings import GRAPH_FORMATS, DataSettings
from hpcembed.runtime.errors import ConfigError


def test_the_registry_has_every_value_of_data_format():
    names = typing.get_args(typing.get_type_hints(DataSettings)["format"])
    assert sorted(names) == sorted(["auto", *GRAPH_FORMATS, *FORMATS])


def test_an_ending_has_one_format():
    endings = Counter(ending for format in FORMATS.values() for ending in format.endings)
    assert max(endings.values()) == 1
    for ending in endings:
        assert ending in FORMATS[format_of_name(f"A{ending.upper()}.gz")].endings
    assert format_of_name("t10k-images-idx3-ubyte.gz") == "idx"
    assert format_of_name("rows.unknown") is None


@pytest.mark.parametrize(("name", "has_labels"), [("y", True), ("other", False)])
def test_labels_of_prediction_input_are_optional(tmp_path, comm, name, has_labels):
    path = tmp_path / "new.npz"
    np.savez(path, x=np.eye(3), **{name: np.array([5, 6, 5])})
    source, found = open_input(path, None, DataSettings())
    assert found == has_labels
    table = source.read(comm)
    assert table.labels.values == (("5", "6") if has_labels else ("",))
    np.testing.assert_array_equal(table.labels.codes, [0, 1, 0] if has_labels else [0, 0, 0])


def test_prediction_input_of_another_kind_is_refused(tmp_path):
    (tmp_path / "new.csv").write_text("text\na b\n")
    with pytest.raises(ConfigError, match=r"data.format = text_csv: name a format"):
        open_input(tmp_path / "new.csv", None, DataSettings(text_column="text"))
