"""The labels of a table that is read block by block.

Labels are numbered as they occur. A column with more different numbers than there may be classes
holds targets: its texts become numbers, and no further text is kept. Texts of numbers that are not
written plainly are kept, because the style is a choice from the whole column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcembed.data.labels import (
    MAX_CLASSES,
    LocalLabels,
    LocalTargets,
    RowLabels,
    as_classes,
    is_number,
)
from hpcembed.data.number_text import are_numbers

__all__ = ["LabelColumn"]


class LabelColumn:
    """Collects the labels of consecutive blocks of rows.

    Parameters
    ----------
    n_rows : int
        Rows of all blocks.
    source : str
        File and column, for messages.

    Examples
    --------
    >>> column = LabelColumn(3, "fruit.csv, column kind")
    >>> column.add(["fig", "pear"], np.array([0, 1]))
    >>> column.add(["fig"], np.array([0]))
    >>> column.labels().codes.tolist(), column.labels().values
    ([0, 1, 0], ('fig', 'pear'))
    """

    def __init__(self, n_rows: int, source: str) -> None:
        self._codes = np.empty(n_rows, dtype=np.int64)
        self._codes_of: dict[str, int] = {}
        self._numbers: NDArray[np.float64] | None = None
        self._source = source
        self._end = 0
        self._keeps_texts = False

    def add(self, texts: Sequence[str], indices: NDArray[np.integer]) -> None:  # type: ignore[type-arg]
        """Add the labels of a block.

        Parameters
        ----------
        texts : sequence of str
            The different labels of the block.
        indices : ndarray of int
            Position in `texts` of the label of each row.

        Raises
        ------
        InputError
            There are more different labels than there may be classes, and some are not numbers.
        """
        begin, self._end = self._end, self._end + len(indices)
        if self._numbers is not None:
            self._numbers[begin : self._end] = self._as_numbers(texts)[indices]
            return
        codes = [self._codes_of.setdefault(text, len(self._codes_of)) for text in texts]
        self._codes[begin : self._end] = np.array(codes, dtype=np.int64)[indices]
        if len(self._codes_of) > MAX_CLASSES and self._are_amounts(texts):
            return
        if len(self._codes_of) > MAX_CLASSES:
            self._numbers = np.empty(self._codes.size)
            numbers = self._as_numbers(list(self._codes_of))
            self._numbers[: self._end] = numbers[self._codes[: self._end]]
            self._codes_of.clear()

    def labels(self) -> RowLabels:
        """Return the labels of all blocks."""
        if self._numbers is not None:
            return LocalTargets(self._numbers, self._source)
        return LocalLabels(self._codes, tuple(self._codes_of), self._source)

    def _are_amounts(self, texts: Sequence[str]) -> bool:
        """Return whether texts are kept: numbers that are not written plainly."""
        if not self._keeps_texts:
            texts = list(self._codes_of)
            self._keeps_texts = not all(map(is_number, texts)) and are_numbers(texts)
        elif not are_numbers(texts):
            as_classes(LocalTargets(np.empty(0), self._source))  # raises: too many classes
        return self._keeps_texts

    def _as_numbers(self, texts: Sequence[str]) -> NDArray[np.float64]:
        if not all(map(is_number, texts)):
            as_classes(LocalTargets(np.empty(0), self._source))  # raises: too many classes
        return np.array([float(text) for text in texts])
