"""Packages that are missing: the error and its command."""

import sys

import pytest

from hpcembed.runtime import optional
from hpcembed.runtime.errors import HpcembedError, MissingPackageError
from hpcembed.runtime.launcher import check_single
from hpcembed.runtime.optional import EXTRAS, install_command, missing, optional_imports


def raise_in_block(error):
    with optional_imports():
        raise error


def test_a_missing_package_is_an_import_error_with_its_command():
    with pytest.raises(MissingPackageError) as caught:
        raise_in_block(ModuleNotFoundError("No module named 'shtab'", name="shtab"))
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, HpcembedError)
    assert str(caught.value) == 'shtab is not installed: pip install "hpcembed[completion]"'


def test_a_missing_part_of_an_installed_package_is_named():
    with pytest.raises(MissingPackageError, match=r"h5py is installed, but .*libhdf5"):
        raise_in_block(ImportError("libhdf5.so: cannot open", name="h5py._errors"))


def test_an_mpi_library_that_is_not_found_is_named():
    with pytest.raises(MissingPackageError, match="finds no MPI library"):
        raise_in_block(RuntimeError("cannot load MPI library"))


@pytest.mark.parametrize(
    "error", [ImportError("no", name="hpcembed.nothing"), ImportError("no"), RuntimeError("no")]
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught:
        raise_in_block(error)
    assert caught.value is error


def test_commands_name_both_parts_of_a_job(monkeypatch):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    assert '"hpcembed[train,mpi]"' in install_command("train")
    assert "conda install" in install_command("mpi")
    assert missing(["numpy"]) == ["numpy"]


def test_the_bindings_are_not_asked_for_where_they_are_installed(monkeypatch):
    found = set(EXTRAS["mpi"])
    monkeypatch.setattr(optional, "find_spec", lambda name: name if name in found else None)
    assert install_command("train") == 'pip install "hpcembed[train]"'


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_processes_without_mpi_are_refused(monkeypatch, variable):
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    check_single("start one")
    monkeypatch.setenv(variable, "3")
    with pytest.raises(HpcembedError, match="started 3 processes without mpi4py: start one"):
        check_single("start one")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_extras_are_those_of_the_package():
    from pathlib import Path

    import tomllib

    path = Path(__file__).parents[3] / "pyproject.toml"
    project = tomllib.loads(path.read_text("utf-8"))["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"all"}
    assert sorted(project["dependencies"]) == ["numpy>=1.26", "safetensors>=0.4"]
    for extra, packages in EXTRAS.items():
        names = {"sklearn": "scikit-learn", "PIL": "pillow", "faiss": "faiss-cpu",
                 "umap": "umap-learn",
                 "sklearnex": "scikit-learn-intelex"}  # fmt: skip
        listed = " ".join(project["optional-dependencies"][extra]).lower()
        for package in packages:
            assert names.get(package, package) in listed
