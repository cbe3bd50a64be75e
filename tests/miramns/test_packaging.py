"""miramns as a package of its own: its wheel is built offline, and imported without hpcembed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import miramns
from wheels import build_wheel

SOLVERS = Path(miramns.__file__).parents[1]

pytestmark = [
    pytest.mark.skipif(find_spec("hatchling") is None, reason="the builder hatchling is missing"),
    pytest.mark.skipif(
        not (SOLVERS / "pyproject.toml").exists(), reason="miramns is not a working tree here"
    ),
]

USE = """
import json, sys
sys.path[:] = [path for path in sys.path if path not in json.loads(sys.argv[2])]
sys.path.insert(0, sys.argv[1])
import miramns
from petsc4py import PETSc
A = PETSc.Mat().createAIJ((50, 50), nnz=1, comm=PETSc.COMM_SELF)
for i in range(50):
    A[i, i] = i + 1.0
A.assemble()
result = miramns.solve(A, 2, hermitian=True)
print(json.dumps([miramns.__file__, miramns.__version__, result.eigenvalues.round(6).tolist()]))
print(json.dumps(sorted(name for name in sys.modules if "hpcembed" in name)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(SOLVERS, folder)[0]


def test_the_wheel_holds_miramns_alone(wheel):
    assert wheel.name == f"miramns-{miramns.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith("METADATA")]
        text = archive.read(metadata).decode()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"miramns", f"miramns-{miramns.__version__}.dist-info"}
    for name in ("py.typed", "README.md", "LICENSE", "bench/__main__.py", "interfaces/eps.py"):
        assert f"miramns/{name}" in names
    sources = {p.relative_to(SOLVERS).as_posix() for p in (SOLVERS / "miramns").rglob("*.py")}
    assert sources == {name for name in names if name.endswith(".py")}
    assert f"Version: {miramns.__version__}" in text
    for line in ("Name: miramns", "Requires-Dist: slepc4py>=3.18", "# miramns"):
        assert line in text.splitlines()
    assert "torch" not in text


def test_the_wheel_works_without_hpcembed(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # an editable install of the working tree may be on the path as well
    tree = [str(SOLVERS), str(SOLVERS.parent)]
    editable = [p for p in sys.path if (Path(p) / "hpcembed").is_dir()]
    done = subprocess.run(
        [sys.executable, "-c", USE, str(site), json.dumps([*tree, *editable])],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, hpcembed = map(json.loads, done.stdout.splitlines())
    assert found == [
        str(site / "miramns" / "__init__.py"), miramns.__version__, [50.0, 49.0]
    ]  # fmt: skip
    assert hpcembed == []
