"""Components of a search: as many as it needs, up to a largest k.

The search starts with a moderate number of components. More are computed, twice as many each time,
only if no network keeps the accuracy. The largest k is that of the job or of ``--max-components``
if one is given; else the smallest k that explains 99.9 % of the variance, and at most 256. Features
and training rows bound it too, and the numerical rank: components beyond it cannot be certified.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from hpcembed.embedding import LocalityPreservingProjection
from hpcembed.jobs.embedding_methods import largest_dimension
from hpcembed.jobs.job import Job
from hpcembed.jobs.study.embedded_data import EmbeddedData, embed_data, stored_fit
from hpcembed.runtime.errors import ConfigError, ConvergenceError, MemoryLimitError
from hpcembed.runtime.wording import counted

__all__ = ["MOST_COMPONENTS", "SearchComponents", "with_components"]

#: Largest k if none is given.
MOST_COMPONENTS = 256
#: Number of components that are computed first.
FIRST_COMPONENTS = 32
#: Share of the variance that the largest k explains, if no k is given.
ENOUGH_SHARE = 0.999


def with_components(job: Job, k: int) -> Job:
    """Return the job with another number of components."""
    section = replace(job.config.embedding, n_components=k)
    return dataclasses.replace(job, config=replace(job.config, embedding=section))


class SearchComponents:
    """The rows of a search and their leading components.

    Collective.

    Parameters
    ----------
    job : Job
    limit : int
        Largest k; 0 chooses it from the spectrum.

    Attributes
    ----------
    data : EmbeddedData
        With the components that are computed so far.
    """

    def __init__(self, job: Job, limit: int) -> None:
        self._job, self._is_given = job, limit > 0
        self._limit, method = limit or MOST_COMPONENTS, job.config.embedding.method
        if method in ("lda", "cca"):
            raise ConfigError(
                f"embedding.method = {method} is fitted with the labels of the validation rows, "
                "which decide the search: use pca, svd or lpp, or hpcembed study"
            )
        if method == "nystroem":
            self._limit = min(self._limit, job.config.kernel.n_landmarks)
        if method == "lpp":
            self._limit = min(self._limit, LocalityPreservingProjection.pca_components)
        first = with_components(job, min(self._limit, FIRST_COMPONENTS))
        self.data: EmbeddedData = embed_data(first, allow_fewer=True)
        train = self.data.train
        most = largest_dimension(job.config, train.n_rows, train.n_features)
        if method in ("pca", "lpp"):
            most = min(most, max(1, train.n_rows - 1))
        self._limit = min(self._limit, most)

    @property
    def largest(self) -> int:
        """Largest k that can be tried now."""
        found = len(self.data.embedding.spectrum_.values)
        return found if self._is_given else min(found, self._enough())

    @property
    def unexplained(self) -> NDArray[np.float64]:
        """Share of the variance that the first 0, 1, ... components do not explain."""
        return self.data.embedding.spectrum_.unexplained

    def _enough(self) -> int:
        """Return the smallest k that explains enough; more than the components if none does."""
        spectrum = self.data.embedding.spectrum_
        if spectrum.share is None:
            return len(spectrum.values)
        enough = np.flatnonzero(spectrum.unexplained <= 1.0 - ENOUGH_SHARE)
        return max(1, int(enough[0])) if enough.size else len(spectrum.values) + 1

    def extend(self) -> bool:
        """Compute twice as many components, if the spectrum goes on.

        Collective. Components that fit neither the tolerance nor the memory end the search for
        more: those before stay.

        Returns
        -------
        bool
            False if there are no more components.
        """
        found = len(self.data.embedding.spectrum_.values)
        if found >= self._limit or (not self._is_given and self._enough() <= found):
            return False
        job = with_components(self._job, min(2 * found, self._limit))
        before = self.largest
        try:
            embedding = stored_fit(job, self.data.train, self.data.test)
        except (ConvergenceError, MemoryLimitError) as error:
            self._job.log(f"the search stays at {counted(found, 'component')}: {error}")
            return False
        if not embedding.certified_:
            components = counted(found, "component")
            self._job.log(f"the search stays at {components}: {embedding.failure_text()}")
            return False
        self.data = dataclasses.replace(self.data, embedding=embedding)
        return self.largest > before
