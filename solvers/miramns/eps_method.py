"""Settings of MIRAMns that EPS has no words for: those of :func:`miramns.solve`."""
# The methods are named in SLEPc's manner.
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from miramns.problem import Orthogonalization, Variant

__all__ = ["MethodSettings"]


class MethodSettings:
    """Setters and getters; what they take is checked at the next solve."""

    def method_from_scratch(self) -> None:
        """Set what holds where nobody says otherwise. Logically collective."""
        self._variant: Variant = "default"
        self._nested_sizes: tuple[int, ...] | None = None
        self._block_size: int | None = None
        self._orthogonalization: Orthogonalization = "auto"
        self._multiplicity_check: Literal["auto", "always", "never"] = "auto"
        self._seed = 0

    def method_settings(self) -> dict[str, Any]:
        """Give the settings as arguments of :func:`miramns.solve`. Not collective."""
        return {
            "variant": self._variant,
            "nested_sizes": self._nested_sizes,
            "block_size": self._block_size,
            "orthogonalization": self._orthogonalization,
            "multiplicity_check": self._multiplicity_check,
            "seed": self._seed,
        }

    def setVariant(self, variant: Variant) -> None:
        """Set ``"default"``, ``"published"`` or ``"block"``. Logically collective."""
        self._variant = variant

    def getVariant(self) -> Variant:
        """Give what was set. Not collective."""
        return self._variant

    def setNestedSizes(self, sizes: Sequence[int] | None) -> None:
        """Set the nested subspace sizes, or None for those of the variant. Logically collective."""
        self._nested_sizes = None if sizes is None else tuple(sizes)

    def getNestedSizes(self) -> tuple[int, ...] | None:
        """Give what was set. Not collective."""
        return self._nested_sizes

    def setBlockSize(self, size: int | None) -> None:
        """Set the columns of a block of the block variant, or None. Logically collective."""
        self._block_size = size

    def getBlockSize(self) -> int | None:
        """Give what was set. Not collective."""
        return self._block_size

    def setOrthogonalization(self, kind: Orthogonalization) -> None:
        """Set how the basis is kept orthogonal. Logically collective."""
        self._orthogonalization = kind

    def getOrthogonalization(self) -> Orthogonalization:
        """Give what was set. Not collective."""
        return self._orthogonalization

    def setMultiplicityCheck(self, effort: Literal["auto", "always", "never"]) -> None:
        """Set how long missing pairs are searched for. Logically collective."""
        self._multiplicity_check = effort

    def getMultiplicityCheck(self) -> Literal["auto", "always", "never"]:
        """Give what was set. Not collective."""
        return self._multiplicity_check

    def setSeed(self, seed: int) -> None:
        """Set the seed of the start vector. Logically collective."""
        self._seed = int(seed)

    def getSeed(self) -> int:
        """Give what was set. Not collective."""
        return self._seed
