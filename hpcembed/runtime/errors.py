"""Errors that hpcembed raises for users, and their exit statuses.

Every error that a user can correct is an :class:`HpcembedError`. Its text is one line with the
problem, its place (file, row, rank) and the remedy. Any other exception is a defect; the command
line prints its traceback and aborts the job on every rank. An error that occurs on one rank is
raised on all of them by :mod:`hpcembed.runtime.agreement`.
"""

from __future__ import annotations

from hpcembed.runtime.printable_text import one_line

__all__ = [
    "ConfigError",
    "ConvergenceError",
    "HpcembedError",
    "InputError",
    "LaunchError",
    "MemoryLimitError",
    "MissingPackageError",
    "OutputError",
    "OutputExistsError",
    "error_text",
]


#: Characters of a message; names from a damaged file may have millions.
_LONGEST = 2000


class HpcembedError(Exception):
    r"""Base class of all errors with a message for the user.

    Messages quote names and values from files. The text of an error is one line of at most 2,000
    characters, in which control characters are replaced by their escape sequences.

    Examples
    --------
    >>> print(HpcembedError("no column 'red\x1b[31m'"))
    no column 'red\x1b[31m'
    """

    exit_status = 2
    #: Word before the message on the terminal, and whether the message of one rank names it.
    label = "error: "
    names_rank = True

    def __str__(self) -> str:
        # Cut first: the escape sequences of a long text take seconds.
        return _cut(one_line(_cut(super().__str__())))


def _cut(text: str) -> str:
    half = _LONGEST // 2 - 5
    return text if len(text) <= _LONGEST else f"{text[:half]} [...] {text[-half:]}"


class InputError(HpcembedError, ValueError):
    """The data cannot be used; the message names the file, the row and the remedy."""


class ConfigError(HpcembedError, ValueError):
    """A job file or an option has an unknown or contradictory value."""


class MemoryLimitError(HpcembedError, MemoryError):
    """A step needs more memory than is available; raised before the memory is allocated."""


class OutputError(HpcembedError, OSError):
    """A file cannot be written; the message names the path and the reason of the system."""


class OutputExistsError(HpcembedError, FileExistsError):
    """The output folder already contains a run."""


class MissingPackageError(HpcembedError, ImportError):
    """A package is not installed; the message contains the command that installs it."""


class LaunchError(HpcembedError, RuntimeError):
    """The MPI launcher and the MPI library of mpi4py do not match."""


class ConvergenceError(HpcembedError, ArithmeticError):
    """A requested eigenpair is unconverged.

    Attributes
    ----------
    result : object
        The result up to the last iteration: an ``EigenResult`` or a fitted estimator.
    """

    exit_status = 3

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


def error_text(error: Exception) -> str:
    """Return type and message of an exception of other code, in one line.

    Examples
    --------
    >>> error_text(ValueError("not  a number"))
    'ValueError: not a number'
    """
    return " ".join(f"{type(error).__name__}: {error}".split())
