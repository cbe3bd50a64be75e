"""Recipes for clusters have the version and the dependencies of pyproject.toml."""

import ast
import contextlib
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "packaging"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
VERSION = PROJECT["version"]
#: Extras of a whole job.
JOB = ("train", "mpi")

#: Names of packages where they differ from those of PyPI.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
SPACK = {"faiss-cpu": "faiss"}
EASYBUILD = {
    "pyarrow": "Arrow", "onnx": "ONNX", "torch": "PyTorch", "safetensors": "Safetensors",
    "numpy": "SciPy-bundle", "scipy": "SciPy-bundle",
    **dict.fromkeys(("threadpoolctl", "jinja2", "tabulate", "rich"), "Python-bundle-PyPI"),
}  # fmt: skip
#: A bundle is named by its date: its packages have versions of their own.
BUNDLES = {"SciPy-bundle", "Python-bundle-PyPI"}


def minimum(requirement):
    """Return name and smallest version of a requirement."""
    parsed = Requirement(requirement)
    (bound,) = parsed.specifier
    assert bound.operator == ">=", requirement
    return parsed.name.lower(), bound.version


def wanted(*extras):
    """Return name and smallest version of the dependencies, and of those of some extras."""
    texts = [*PROJECT["dependencies"]]
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return dict(minimum(text) for text in texts)


OTHERS = [
    name for name in PROJECT["optional-dependencies"] if name not in (*JOB, "all")
]  # fmt: skip


def flat(entries):
    for entry in entries:
        yield entry["then"] if isinstance(entry, dict) else entry


def test_conda():
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load((RECIPES / "conda" / "recipe.yaml").read_text("utf-8"))
    assert recipe["context"]["version"] == VERSION
    assert recipe["about"]["license"] == PROJECT["license"]
    (script,) = recipe["build"]["python"]["entry_points"]
    assert script == f"hpcembed = {PROJECT['scripts']['hpcembed']}"
    bounded = [entry for entry in flat(recipe["requirements"]["run"]) if " >=" in entry]
    found = dict(entry.split(" >=") for entry in bounded)
    assert f">={found.pop('python')}" == PROJECT["requires-python"]
    expected = {CONDA.get(name, name): version for name, version in wanted(*JOB).items()}
    assert found == expected
    optional = dict(entry.split(" >=") for entry in recipe["requirements"]["run_constraints"])
    expected = {CONDA.get(name, name): version for name, version in wanted(*OTHERS).items()}
    assert optional == {name: v for name, v in expected.items() if name not in found}
    assert "petsc * real*" in recipe["requirements"]["run"]


class SpackPackage:
    """Records what a package.py of Spack declares."""

    def __init__(self):
        self.versions, self.variants, self.needs, self.context = [], {}, [], []

    def names(self):
        @contextlib.contextmanager
        def when(condition):
            self.context.append(condition)
            yield
            self.context.pop()

        def depends_on(spec, type=("build", "link"), when=""):
            self.needs.append((spec, type, " ".join([*self.context, when]).strip()))

        return {
            "license": lambda name: None,
            "version": self.versions.append,
            "variant": lambda name, default, description: self.variants.update({name: default}),
            "depends_on": depends_on,
            "when": when,
        }


@pytest.fixture
def spack(monkeypatch):
    recorded = SpackPackage()
    package = types.ModuleType("spack.package")
    vars(package).update(recorded.names(), __all__=[*recorded.names()])
    python = types.ModuleType("spack_repo.builtin.build_systems.python")
    python.PythonPackage = object
    for name in ("spack", "spack_repo", "spack_repo.builtin", "spack_repo.builtin.build_systems"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "spack.package", package)
    monkeypatch.setitem(sys.modules, python.__name__, python)
    path = RECIPES / "spack" / "packages" / "py_hpcembed" / "package.py"
    exec(compile(path.read_text("utf-8"), str(path), "exec"), {"__name__": "package"})
    return recorded


def test_spack(spack):
    assert spack.versions == [VERSION]
    assert spack.variants == {
        extra: extra in JOB for extra in PROJECT["optional-dependencies"]
        if extra not in ("bench", "all")
    }  # fmt: skip
    assert ("c", "build", "") in spack.needs
    assert ("petsc~complex+double+mpi", ("build", "link"), "+mpi") in spack.needs
    assert any(spec == "py-hatchling@1.27:" and kind == "build" for spec, kind, _ in spack.needs)
    for extra in (None, *spack.variants):
        condition = f"+{extra}" if extra else ""
        found = {}
        for spec, kind, when in spack.needs:
            name, _, version = spec.removesuffix("+python").partition("@")
            if kind == "run" and when.split(" ^")[0] == condition:
                found[name.removeprefix("py-")] = version.removesuffix(":")
        texts = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
        expected = dict(minimum(text) for text in texts)
        assert found == {SPACK.get(name, name): v for name, v in expected.items()}, extra


def test_easybuild():
    (path,) = (RECIPES / "easybuild").glob("*.eb")
    assert path.name == f"hpcembed-{VERSION}-foss-2024a.eb"
    space = {}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), space)
    assert space["version"] == VERSION
    found = {name: version for name, version, *_ in space["dependencies"]}
    found |= {name: version for name, version, *_ in space["exts_list"]}
    assert found.pop("hpcembed") == VERSION
    assert found.pop("Python") in SpecifierSet(PROJECT["requires-python"])
    wanted_here = {
        EASYBUILD.get(name, name): version
        for name, version in wanted(*JOB).items()
        if name != "tomli"  # part of this Python
    }
    assert set(found) == set(wanted_here)
    for name, version in found.items():
        assert name in BUNDLES or version in SpecifierSet(f">={wanted_here[name]}"), name
    (hatchling,) = space["builddependencies"]
    assert hatchling[1] in SpecifierSet(">=1.27")


def test_images():
    dockerfile = (RECIPES / "docker" / "Dockerfile").read_text("utf-8")
    definition = (RECIPES / "apptainer" / "hpcembed.def").read_text("utf-8")
    assert f'image.version="{VERSION}"' in dockerfile
    assert f"    Version {VERSION}\n" in definition
    base = re.search(r"^FROM (\S+)$", dockerfile, re.MULTILINE)[1]
    assert f"\nFrom: {base}\n" in definition
    script = "/usr/src/hpcembed/packaging/container/install.sh /usr/src/hpcembed /opt/hpcembed"
    assert script in dockerfile
    assert script in definition
    sections = re.findall(r"^%(\w+)", definition, re.MULTILINE)
    assert set(sections) == {"labels", "files", "post", "environment", "runscript", "test", "help"}


def array(path, name):
    """Return the words of an array of a shell script."""
    (words,) = re.findall(rf"^{name}=\((.*?)\)", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return words.split()


def test_the_script_of_the_images_installs_the_packages_of_the_set_up():
    script = RECIPES / "container" / "install.sh"
    assert array(script, "packages") == array(ROOT / "scripts" / "setup.sh", "apt_packages")
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    (extras,) = re.findall(r'"\$\{source\}\[(.*?)\]"', script.read_text("utf-8"))
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    torch = minimum(
        next(one for one in PROJECT["optional-dependencies"]["train"] if "torch" in one)
    )
    assert f"torch>={torch[1]} " in script.read_text("utf-8")


def test_files_of_python_are_valid():
    for path in [*RECIPES.rglob("*.py"), *RECIPES.rglob("*.eb")]:
        ast.parse(path.read_text("utf-8"), str(path))


#: Names of packages on PyPI where they differ from those of their imports.
DISTRIBUTIONS = {
    "faiss": "faiss-cpu", "PIL": "pillow", "skdim": "scikit-dimension", "umap": "umap-learn",
    "yaml": "pyyaml",
}  # fmt: skip


def test_packages_without_which_tests_are_skipped_are_installed_for_the_checks():
    pattern = re.compile(r'importorskip\(\s*"(\w+)')
    found = {
        DISTRIBUTIONS.get(name, name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in pattern.findall(path.read_text("utf-8"))
    }
    assert {"scikit-dimension", "umap-learn"} <= found
    extras = PROJECT["optional-dependencies"]
    installed = [*GROUPS["test"], *GROUPS["oracles"]]
    installed += [text for name in ("train", "mpi", "images", "onnx") for text in extras[name]]
    missing = found - {Requirement(text).name.lower() for text in installed}
    assert not missing
    order = re.search(r"for target in (.*); do", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert order[1].split()[:2] == ["setup", "oracles"]
