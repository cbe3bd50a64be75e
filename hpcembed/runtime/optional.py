"""Packages of optional parts, and the error of an import that lacks one.

``pip install hpcembed`` brings numpy and safetensors: models are loaded and rows predicted with
these two. Every other package belongs to an extra of ``pyproject.toml``. A module imports its
packages as usual; an entry point runs inside :func:`optional_imports`, which turns the error of an
import into one line with the command that installs the missing part.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from hpcembed.runtime.errors import MissingPackageError, error_text

__all__ = ["EXTRAS", "extra_of", "install_command", "is_installed", "missing", "optional_imports"]

#: Import names of the packages of each extra. The extras of a job come first.
EXTRAS = {
    "train": (
        *("torch", "sklearn", "scipy", "threadpoolctl", "msgspec", "jinja2", "tabulate", "rich"),
        *("matplotlib", "h5py", "pyarrow", "onnx"),
        *(("tomli",) if sys.version_info < (3, 11) else ()),
    ),
    "mpi": ("mpi4py", "petsc4py", "slepc4py"),
    "images": ("PIL",),
    "onnx": ("onnxruntime",),
    "retrieval": ("faiss",),
    "map": ("umap",),
    "completion": ("shtab",),
    "bench": ("sklearnex",),
}
_JOB = ("train", "mpi")


def extra_of(module: str) -> str | None:
    """Return the extra that has the package of a module; None for a package of no extra.

    Examples
    --------
    >>> extra_of("pyarrow.csv"), extra_of("numpy")
    ('train', None)
    """
    package = module.partition(".")[0]
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)


def is_installed(package: str) -> bool:
    """Return whether a package can be found; it is not imported.

    Examples
    --------
    >>> is_installed("numpy"), is_installed("no_package_of_this_name")
    (True, False)
    """
    return find_spec(package) is not None


def missing(packages: Iterable[str]) -> list[str]:
    """Return the packages that are not installed, in the given order."""
    return [package for package in packages if not is_installed(package)]


def install_command(extra: str) -> str:
    """Return the command that installs an extra, and the other extra of jobs if it is missing.

    Examples
    --------
    >>> install_command("images")
    'pip install "hpcembed[images]"'
    """
    extras = [extra]
    if extra in _JOB:
        extras = [one for one in _JOB if one == extra or missing(EXTRAS[one][:3])]
    command = f'pip install "hpcembed[{",".join(extras)}]"'
    if "mpi" in extras:
        conda = "conda install -c conda-forge petsc4py slepc4py mpi4py"
        return f"{conda}, then {command} (without conda, pip builds PETSc from source)"
    return command


@contextmanager
def optional_imports() -> Iterator[None]:
    """Report an import that lacks a package of an extra as an error with the command that helps.

    Other exceptions pass unchanged.

    Raises
    ------
    MissingPackageError
        A package of an extra is not installed, or cannot be imported.

    Examples
    --------
    >>> try:
    ...     with optional_imports():
    ...         raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
    ... except MissingPackageError as error:
    ...     print(error)
    PIL is not installed: pip install "hpcembed[images]"
    """
    try:
        yield
    except MissingPackageError:
        raise
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        extra = extra_of(package)
        if extra is None:
            raise
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            problem = f"{package} is not installed"
        else:
            problem = f"{package} is installed, but cannot be imported ({error_text(error)})"
        raise MissingPackageError(f"{problem}: {install_command(extra)}", name=package) from error
    except RuntimeError as error:
        # the bindings of PyPI search the MPI library when they are imported
        if "cannot load MPI library" not in str(error):
            raise
        raise MissingPackageError(
            "mpi4py finds no MPI library: install one, for example by "
            "conda install -c conda-forge mpi4py petsc4py slepc4py"
        ) from error
