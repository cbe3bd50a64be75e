"""Python modules in a process of their own, with a time limit and outside of the MPI job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["PYTHON", "Ended", "environment_without_launcher", "run_words"]

#: The beginning of a command that runs this Python with the same packages.
PYTHON = [sys.executable, *(["-S"] if sys.flags.no_site else [])]

#: Beginnings of the variables by which a launcher and its processes find each other.
_LAUNCHER = ("OMPI_", "PMIX_", "PMI_", "HYDI_", "HYDRA_", "MPI_LOCAL", "ORTE_", "PALS_", "MV2_COMM")
#: Settings of the user among them.
_KEPT = ("OMPI_ALLOW_", "OMPI_MCA_rmaps", "OMPI_MCA_btl", "OMPI_MCA_mpi", "OMPI_MCA_pml")


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended.

    Attributes
    ----------
    status : int or None
        Exit status, negative after a signal; None if the time limit ended the process.
    out, err : str
    """

    status: int | None
    out: str
    err: str

    @property
    def reason(self) -> str:
        """How the process ended, and the last line that it printed to standard error."""
        status = self.status or 0
        how = f"exit status {status}"
        if status < 0:
            how = signal.Signals(-status).name
        lines = [line for line in self.err.splitlines() if line.strip(" -*=")]
        return f"{how}: {lines[-1].strip()[:200]}" if lines else how


def environment_without_launcher(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without the variables of a running MPI job, and with `changes`.

    A child process would otherwise take the place of its parent in the job.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_KEPT) or not name.startswith(_LAUNCHER)
    }
    # modules are found in the same places, wherever the child starts
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    if hasattr(os, "getuid") and os.getuid() == 0:
        kept |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return kept | dict(changes or {})


def run_words(
    words: Sequence[str], seconds: float, changes: Mapping[str, str] | None = None
) -> Ended:
    """Run a command; end it and its children at the time limit.

    Raises
    ------
    OSError
        The command cannot be started.
    """
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment_without_launcher(changes),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return Ended(None, out, err)
    return Ended(process.returncode, out, err)
