"""Errors that hpcembed raises on purpose, and the exit status that each one becomes.

Everything a user can mend is an :class:`HpcembedError` whose text is one line: what is wrong,
where (file, row, rank), what to do. Anything else that escapes is a defect; the command line
prints its traceback and ends the job on every rank.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ConvergenceError",
    "HpcembedError",
    "InputError",
    "LaunchError",
    "MemoryLimitError",
    "OutputError",
    "OutputExistsError",
]


class HpcembedError(Exception):
    """Root of all errors that carry a message for the user."""

    exit_status = 2


class InputError(HpcembedError, ValueError):
    """The data cannot be used as it is: names the file, the row and the remedy."""


class ConfigError(HpcembedError, ValueError):
    """A job file or an option asks for something that does not exist or does not fit."""


class MemoryLimitError(HpcembedError, MemoryError):
    """A step would need more memory than there is; raised before anything is allocated."""


class OutputError(HpcembedError, OSError):
    """A file cannot be written: names the path and the system's reason."""


class OutputExistsError(HpcembedError, FileExistsError):
    """The output folder already holds a run."""


class LaunchError(HpcembedError, RuntimeError):
    """The MPI launcher and the MPI library of mpi4py do not belong together."""


class ConvergenceError(HpcembedError, ArithmeticError):
    """A requested eigenpair missed its tolerance.

    Attributes
    ----------
    result : object
        What was computed up to then (an ``EigenResult`` or a fitted estimator).
    """

    exit_status = 3

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result
