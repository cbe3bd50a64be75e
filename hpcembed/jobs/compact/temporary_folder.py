"""The temporary folder of a call from Python, on every compute node.

Rank 0 makes the folder and removes it with its owner. Ranks write files of finished trials into the
same path. On another compute node the path is a folder of its own if temporary files are local to
the node; its first rank removes it. A mark of rank 0 shows that the folder is shared instead.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from mpi4py import MPI

from hpcembed.runtime.agreement import agreement
from hpcembed.runtime.ranks import compute_node

__all__ = ["TemporaryFolder", "remove_local_copy"]

_MARK = ".made-by-rank-0"


class TemporaryFolder:
    """A folder that rank 0 makes; as a context, it is removed at the end.

    Collective; the other methods are not.

    Attributes
    ----------
    path : Path
        The folder, on all ranks.

    Examples
    --------
    >>> with TemporaryFolder(MPI.COMM_SELF) as folder:
    ...     path = folder.path
    ...     path.is_dir()
    True
    >>> path.exists()
    False
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self._owner: tempfile.TemporaryDirectory[str] | None = None
        node = compute_node(comm)
        self._is_first = comm.rank != 0 and node.rank == 0
        node.Free()
        with agreement(comm):
            if comm.rank == 0:
                self._owner = tempfile.TemporaryDirectory(prefix="hpcembed-")
                Path(self._owner.name, _MARK).touch()
        self.path = Path(comm.bcast(self._owner and self._owner.name))

    def remove_copies(self) -> None:
        """Remove the folders of other compute nodes; the one of rank 0 stays."""
        if self._is_first:
            remove_local_copy(self.path)

    def cleanup(self) -> None:
        """Remove the folder on every compute node."""
        self.remove_copies()
        if self._owner is not None:
            self._owner.cleanup()

    def __enter__(self) -> TemporaryFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cleanup()


def remove_local_copy(path: Path) -> None:
    """Remove the folder of another compute node; a folder that rank 0 shares is kept."""
    if path.is_dir() and not (path / _MARK).exists():
        shutil.rmtree(path, ignore_errors=True)
