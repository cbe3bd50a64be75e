"""The environment of a run names the products in use."""

import pytest

from hpcembed.runtime.errors import ConfigError
from hpcembed.runtime.machine.environment import describe_environment
from hpcembed.runtime.machine.native_library import supported_sets

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize(("setting", "products"), [("none", "numpy"), ("", None)])
def test_products_in_use(comm, monkeypatch, setting, products):
    monkeypatch.setenv("HPCEMBED_NATIVE", setting)
    environment = describe_environment(comm, 1)
    assert environment["products"] == (products or (supported_sets() or ["numpy"])[0])
    assert environment["variables"]["HPCEMBED_NATIVE"] == setting


def test_a_wrong_setting_of_one_rank_is_an_error_of_all(comm, monkeypatch):
    wrong = "altivec" if comm.rank == comm.size - 1 else "none"
    monkeypatch.setenv("HPCEMBED_NATIVE", wrong)
    with pytest.raises(ConfigError, match="HPCEMBED_NATIVE=altivec: not available here"):
        describe_environment(comm, 1)
