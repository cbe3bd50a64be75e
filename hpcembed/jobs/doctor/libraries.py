"""Packages that are missing or broken; MPI, PETSc, SLEPc and PyTorch that fit each other."""

from __future__ import annotations

import itertools
import json
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import hpcembed
from hpcembed.jobs.doctor.child_process import PYTHON, Ended, run_words
from hpcembed.jobs.doctor.finding import Finding, found
from hpcembed.jobs.doctor.library_probe import PACKAGES
from hpcembed.runtime.optional import EXTRAS, extra_of, install_command, is_installed, missing

__all__ = ["check_libraries", "check_packages", "probe_libraries"]

#: Seconds for the imports: a shared file system may be slow.
_LIMIT = 120.0

Facts = Mapping[str, Mapping[str, Any]]


def check_packages() -> list[Finding]:
    """Return findings about the parts of hpcembed that are installed."""
    findings = [
        found(
            "python",
            hpcembed=hpcembed.__version__,
            python=platform.python_version(),
            numpy=np.__version__,
        )
    ]
    present = []
    for extra, packages in EXTRAS.items():
        lacking = missing(packages)
        if not lacking:
            present.append(extra)
        elif extra in ("train", "mpi"):
            names = ", ".join(lacking)
            command = install_command(extra)
            findings.append(found("job-part-missing", packages=names, command=command))
        else:
            names = ", ".join(lacking)
            command = install_command(extra)
            findings.append(
                found("optional-part-missing", extra=extra, packages=names, command=command)
            )
    if present:
        findings.append(found("optional-parts", extras=", ".join(present)))
    return findings


def probe_libraries(limit: float = _LIMIT) -> dict[str, dict[str, Any]]:
    """Return facts about the installed packages among those of the probe.

    A package whose import ends or stops the process has the fact "crash" or "hang".
    """
    waiting = [name for name in PACKAGES if is_installed(name)]
    facts: dict[str, dict[str, Any]] = {}
    while waiting:
        module = "hpcembed.jobs.doctor.library_probe"
        ended = run_words([*PYTHON, "-m", module, *waiting], limit)
        reached = _read(ended, facts)
        waiting = waiting[waiting.index(reached) + 1 :] if reached in waiting else []
    return facts


def _read(ended: Ended, facts: dict[str, dict[str, Any]]) -> str:
    """Store the facts of a process; return the package whose import ended it, or the last one."""
    reached = ""
    for line in ended.out.splitlines():
        if line.startswith("import "):
            reached = line.removeprefix("import ")
        elif line.startswith('{"package"'):
            fact = json.loads(line)
            facts[fact.pop("package")] = fact
    if not reached:
        raise OSError(f"{sys.executable} -m hpcembed.jobs.doctor.library_probe: {ended.reason}")
    if reached not in facts:
        facts[reached] = {"hang": True} if ended.status is None else {"crash": ended.reason}
    return reached


def check_libraries(facts: Facts) -> list[Finding]:
    """Return findings about the facts of :func:`probe_libraries`."""
    findings: list[Finding] = []
    for package, fact in facts.items():
        findings += _import_problems(package, fact)
    sound = {package: fact for package, fact in facts.items() if "version" in fact}
    findings += _releases(sound) + _mpi(sound)
    if "torch" in sound:
        findings += _torch(sound["torch"])
    return findings


def _import_problems(package: str, fact: Mapping[str, Any]) -> list[Finding]:
    if "hang" in fact:
        return [found("import-hangs", package=package, seconds=round(_LIMIT))]
    if "crash" in fact:
        return [found("import-crash", package=package, reason=fact["crash"])]
    error = fact.get("error")
    if not error:
        return []
    if "cannot load MPI library" in error:
        return [found("no-mpi-library")]
    if re.search(r"compiled using NumPy 1|numpy\.core\.multiarray failed|_ARRAY_API", error):
        return [found("numpy-too-new", package=package, numpy=np.__version__)]
    command = install_command(extra_of(package) or "train")
    return [found("package-broken", package=package, error=error, command=command)]


def _releases(sound: Facts) -> list[Finding]:
    """Compare the first two numbers of the releases of PETSc, SLEPc and their bindings."""
    versions = []
    for binding, library in (("petsc4py", "PETSc"), ("slepc4py", "SLEPc")):
        if binding in sound:
            versions.append((binding, str(sound[binding]["version"])))
            versions.append((library, str(sound[binding]["library"])))
    findings = []
    for (first, one), (second, other) in itertools.pairwise(versions):
        if one.split(".")[:2] != other.split(".")[:2]:
            findings.append(
                found("release-pair", first=first, first_version=one, second=second,
                      second_version=other)
            )  # fmt: skip
    return findings


def _mpi(sound: Facts) -> list[Finding]:
    petsc, mpi4py = sound.get("petsc4py"), sound.get("mpi4py")
    findings = []
    if petsc and petsc["scalar"] != "float64":
        findings.append(found("scalar-type", type=petsc["scalar"]))
    if not petsc or not mpi4py:
        return findings
    paths = sorted({*petsc["paths"], *mpi4py["paths"]})
    if len({Path(path).name for path in paths}) > 1 or len(paths) > 1:
        findings.append(found("two-mpi-libraries", libraries=", ".join(paths)))
    else:
        findings.append(
            found("mpi", library=mpi4py["library"], mpi4py=mpi4py["version"],
                  petsc=petsc["library"])
        )  # fmt: skip
    return findings


def _torch(fact: Mapping[str, Any]) -> list[Finding]:
    version, gpus = fact["version"], fact["gpus"]
    if not fact["shares_arrays"]:
        return [found("torch-too-old", version=version, numpy=np.__version__)]
    if not gpus and _has_nvidia():
        return [found("gpu-unused", version=version)]
    devices = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else "without GPU"
    return [found("torch", version=version, devices=devices)]


def _has_nvidia(root: Path = Path("/")) -> bool:
    """Return whether the driver of an NVIDIA GPU is loaded."""
    return any((root / name).exists() for name in ("proc/driver/nvidia/version", "dev/nvidia0"))
