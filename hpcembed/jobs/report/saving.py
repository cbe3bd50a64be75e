"""Parameters that a compressed model saves, and the parts of the saving, in words and numbers.

Parameters are counted with the projection first, and without it second. The saving is the product
of two factors: that of the smaller network, with all features as its inputs, and that of the
embedding, whose projection counts as parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SavedParameters", "times_fewer"]


def times_fewer(large: float, small: float) -> str:
    """Compare two counts: ``3.2 times fewer``, or ``1.5 times more`` if `small` is larger.

    Examples
    --------
    >>> times_fewer(669706, 45290), times_fewer(16067, 233685), times_fewer(10, 10)
    ('14.8 times fewer', '14.5 times more', 'as many')
    """
    if large == small:
        return "as many"
    if large > small:
        return f"{large / small:.1f} times fewer"
    return f"{small / large:.1f} times more"


@dataclass(frozen=True, slots=True)
class SavedParameters:
    r"""Numbers of parameters of a compressed model, and of the networks that it is compared with.

    Attributes
    ----------
    baseline : int
        Of the best network on all features.
    same_network : int or None
        Of the network of the model, on all features; None if it was not trained.
    network : int
        Of the network of the model, without the projection.
    with_projection : int or None
        The same with the projection; None for an embedding that is not a projection.
    same_is_baseline : bool
        Whether the network of the model is that of the baseline.

    Examples
    --------
    >>> saved = SavedParameters(669706, 118282, 21770, 45290)
    >>> for part in saved.text().split("; "):
    ...     print(*part.split(": "), sep="\n    ")
    parameters
        669,706 -> 45,290 with the projection, 14.8 times fewer
        a factor of 5.7 is that of the smaller network on all features, and 2.6 of the embedding
    21,770 without the projection, 30.8 times fewer
    >>> [round(factor, 2) for factor in saved.factors().values()]
    [14.79, 5.66, 2.61]
    """

    baseline: int
    same_network: int | None
    network: int
    with_projection: int | None
    same_is_baseline: bool = False

    def factors(self) -> dict[str, float | None]:
        """Return the whole saving and its two factors; None where they are not defined."""
        stored, same = self.with_projection, self.same_network
        return {
            "total": self.baseline / stored if stored else None,
            "of_network": self.baseline / same if same else None,
            "of_embedding": same / stored if same and stored else None,
        }

    def record(self) -> dict[str, int | None]:
        """Return the counts for a JSON file."""
        return {
            "baseline": self.baseline,
            "same_network": self.same_network,
            "network": self.network,
            "with_projection": self.with_projection,
        }

    def text(self) -> str:
        """State the counts, the saving and its factors."""
        alone = f"{self.network:,} without the"
        fewer = times_fewer(self.baseline, self.network)
        if self.with_projection is None:
            return (
                f"parameters: {self.baseline:,} -> {alone} embedding, which is not a projection, "
                f"{fewer}"
            )
        total = times_fewer(self.baseline, self.with_projection)
        return (
            f"parameters: {self.baseline:,} -> {self.with_projection:,} with the projection, "
            f"{total}{self._parts()}; {alone} projection, {fewer}"
        )

    def _parts(self) -> str:
        if self.same_is_baseline:
            return ", all of it by the embedding"
        if self.same_network is None or not self.with_projection:
            return ""
        of_network = self.baseline / self.same_network
        of_embedding = self.same_network / self.with_projection
        size = "smaller" if of_network >= 1.0 else "larger"
        return (
            f": a factor of {_factor(of_network)} is that of the {size} network on all features, "
            f"and {_factor(of_embedding)} of the embedding"
        )


def _factor(factor: float) -> str:
    """Format a factor with one decimal, or with two digits below 1."""
    return f"{factor:.1f}" if factor >= 1.0 else f"{factor:.2g}"
