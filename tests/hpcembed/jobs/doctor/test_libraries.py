"""Findings about packages, MPI, PETSc, SLEPc and torch, with faults injected."""

import pytest

from hpcembed.jobs.doctor import libraries
from hpcembed.jobs.doctor.library_probe import mpi_libraries
from hpcembed.runtime import optional

MPI = "/usr/lib/libmpi.so.40.30.4"
SOUND = {
    "mpi4py": {"version": "4.1.2", "library": "Open MPI v4.1.4", "paths": [MPI]},
    "petsc4py": {"version": "3.18.5", "library": "3.18.4", "scalar": "float64", "index": "int32",
                 "paths": [MPI]},
    "slepc4py": {"version": "3.18.2", "library": "3.18.2"},
    "torch": {"version": "2.13.0", "gpus": 0, "shares_arrays": True},
}  # fmt: skip


def facts(package=None, **changes):
    changed = {name: dict(fact) for name, fact in SOUND.items()}
    if package:
        changed[package].update(changes)
    return changed


def names(findings):
    return [finding.name for finding in findings]


def test_libraries_that_fit(monkeypatch):
    monkeypatch.setattr(libraries, "_has_nvidia", lambda: False)
    findings = libraries.check_libraries(facts())
    assert names(findings) == ["mpi", "torch"]
    assert findings[0].text == "Open MPI v4.1.4, mpi4py 4.1.2; PETSc 3.18.4 uses the same MPI"
    assert findings[1].text == "torch 2.13.0, without GPU"
    assert {finding.level for finding in findings} == {"OK"}


@pytest.mark.parametrize(
    ("package", "changes", "name", "words"),
    [
        ("petsc4py", {"library": "3.19.0"}, "release-pair", "petsc4py 3.18.5 and PETSc 3.19.0"),
        ("slepc4py", {"library": "3.1.8"}, "release-pair", "slepc4py 3.18.2 and SLEPc 3.1.8"),
        ("petsc4py", {"scalar": "complex128"}, "scalar-type", "scalars of type complex128"),
        ("petsc4py", {"scalar": "float32"}, "scalar-type", "float32"),
        ("petsc4py", {"paths": [MPI, "/opt/libmpi.so.12"]}, "two-mpi-libraries", "libmpi.so.12"),
        ("petsc4py", {"paths": ["/opt/libmpi.so.40.30.4"]}, "two-mpi-libraries", "/opt/libmpi"),
        ("torch", {"shares_arrays": False, "version": "2.2.0"}, "torch-too-old", "torch 2.2.0"),
    ],
)
def test_libraries_that_do_not_fit(package, changes, name, words):
    findings = libraries.check_libraries(facts(package, **changes))
    # PETSc is compared with its bindings and with those of SLEPc
    wrong = next(finding for finding in findings if finding.level == "ERROR")
    assert {finding.name for finding in findings if finding.level != "OK"} <= {name, "gpu-unused"}
    assert words in wrong.text
    assert wrong.remedy


def test_slepc_of_another_release_than_petsc():
    findings = libraries.check_libraries(facts("slepc4py", version="3.20.1", library="3.20.1"))
    assert names(findings)[0] == "release-pair"
    assert "PETSc 3.18.4 and slepc4py 3.20.1" in findings[0].text


@pytest.mark.parametrize(
    ("fact", "name", "words"),
    [
        ({"error": "RuntimeError: cannot load MPI library"}, "no-mpi-library", "pip|conda"),
        ({"error": "ImportError: numpy.core.multiarray failed to import"}, "numpy-too-new", "<2"),
        ({"error": "ImportError: libpetsc.so: no such file"}, "package-broken", "reinstall"),
        ({"crash": "SIGSEGV"}, "import-crash", "same MPI library"),
        ({"hang": True}, "import-hangs", "local disk"),
    ],
)
def test_failed_imports(fact, name, words):
    (finding,) = libraries.check_libraries({"petsc4py": fact})
    assert (finding.name, finding.level) == (name, "ERROR")
    assert any(word in finding.remedy for word in words.split("|"))


@pytest.mark.parametrize(("gpus", "name"), [(0, "gpu-unused"), (2, "torch")])
def test_gpus(gpus, name, monkeypatch, tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    has_nvidia = libraries._has_nvidia(tmp_path)
    monkeypatch.setattr(libraries, "_has_nvidia", lambda: has_nvidia)
    finding = libraries.check_libraries({"torch": SOUND["torch"] | {"gpus": gpus}})[0]
    assert finding.name == name
    assert gpus == 0 or "2 GPUs" in finding.text


def stub(folder, package, code):
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(code)


def test_the_probe_goes_on_after_an_import_that_ends_the_process(monkeypatch, tmp_path):
    """Packages that crash and raise, in front of those that are installed."""
    stub(tmp_path, "mpi4py", "import os; os.kill(os.getpid(), 11)")
    stub(tmp_path, "petsc4py", "raise ImportError('libmpi.so.12: cannot open')")
    stub(tmp_path, "slepc4py", "import sys; sys.exit(3)")
    monkeypatch.setattr(libraries, "is_installed", lambda name: name != "torch")
    monkeypatch.syspath_prepend(tmp_path)
    found = libraries.probe_libraries()
    assert found["mpi4py"]["crash"] == "SIGSEGV"
    assert "libmpi.so.12: cannot open" in found["petsc4py"]["error"]
    assert found["slepc4py"]["crash"] == "exit status 3"
    findings = libraries.check_libraries(found)
    assert names(findings) == ["import-crash", "package-broken", "import-crash"]


def test_the_probe_ends_an_import_that_hangs(monkeypatch, tmp_path):
    stub(tmp_path, "torch", "import time; time.sleep(600)")
    monkeypatch.setattr(libraries, "is_installed", lambda name: name == "torch")
    monkeypatch.syspath_prepend(tmp_path)
    found = libraries.probe_libraries(limit=15)
    assert found == {"torch": {"hang": True}}
    assert names(libraries.check_libraries(found)) == ["import-hangs"]


def test_the_probe_of_this_installation_finds_no_error(monkeypatch):
    pytest.importorskip("petsc4py")
    monkeypatch.setattr(libraries, "is_installed", lambda name: name != "torch")
    found = libraries.probe_libraries()
    assert set(found) == {"mpi4py", "petsc4py", "slepc4py"}
    assert names(libraries.check_libraries(found)) == ["mpi"]


def test_mpi_libraries_are_told_from_their_bindings(tmp_path):
    maps = tmp_path / "maps"
    maps.write_text(
        "".join(
            f"7f00-7f01 r-xp 00000000 08:01 42    {path}\n"
            for path in (
                *("/usr/lib/libmpi.so.40.30.4", "/usr/lib/libmpi_cxx.so.40", "/lib/libmpich.so.12"),
                *("/usr/lib/libmpi_mpifh.so.40.30.0", "/usr/lib/libfftw3_mpi.so.3", "[heap]"),
                *("/opt/cray/libmpi_gnu_91.so.12", "/x/openmpi/lib/mca_btl_tcp.so"),
                "/usr/lib/libmpi.so.40.30.4",
            )
        )
    )
    assert mpi_libraries(maps) == [
        *("/lib/libmpich.so.12", "/opt/cray/libmpi_gnu_91.so.12", "/usr/lib/libmpi.so.40.30.4"),
    ]
    assert mpi_libraries(tmp_path / "none") == []


def test_packages_that_are_missing(monkeypatch):
    absent = {"torch", "mpi4py", "PIL"}
    for module in (libraries, optional):
        monkeypatch.setattr(module, "missing", lambda all_: [one for one in all_ if one in absent])
    findings = libraries.check_packages()
    jobs = [finding for finding in findings if finding.name == "job-part-missing"]
    assert [finding.level for finding in jobs] == ["WARNING", "WARNING"]
    assert "hpcembed[train,mpi]" in jobs[0].remedy
    (images,) = (finding for finding in findings if finding.name == "optional-part-missing")
    assert (images.level, images.remedy) == ("OK", 'pip install "hpcembed[images]"')
    (present,) = (finding for finding in findings if finding.name == "optional-parts")
    assert "retrieval" in present.text
    assert "images" not in present.text
    assert findings[0].name == "python"
