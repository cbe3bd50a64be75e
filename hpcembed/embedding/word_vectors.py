"""Word vectors with a certificate: dominant eigenvectors of the information in co-occurrences.

Words that stand near the same words get vectors that point the same way. Words are counted within
a window over the documents of all ranks
(:mod:`hpcembed.operators.cooccurrence.word_cooccurrence`), counts become shifted
positive pointwise mutual information M
(:mod:`hpcembed.operators.cooccurrence.mutual_information`), and with the eigenpairs ``M u = lambda
u`` of largest modulus the vector of word i is row i of ``U |Lambda|^p``. With p = 1/2 this is the
factorisation that word2vec's skip-gram with negative sampling approaches: Levy, Goldberg, "Neural
word embedding as implicit matrix factorization", NIPS 27 (2014); Levy, Goldberg, Dagan, TACL 3
(2015).

Deviation. M is symmetric here (see there), so that eigenpairs take the place of singular triplets:
the modulus of an eigenvalue is the singular value, and its sign is not used.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.text.documents import Documents
from hpcembed.embedding.certificate import Certificate
from hpcembed.embedding.information import InformationSettings, information_pairs
from hpcembed.embedding.limits import check_limits
from hpcembed.embedding.pca import seed_of
from hpcembed.embedding.solving import SolverSettings
from hpcembed.embedding.word_documents import as_numbers, corpus_of, weighted_rows
from hpcembed.operators import BUFFER_BYTES, Window, same_on_all_ranks
from hpcembed.operators.cooccurrence.word_cooccurrence import cooccurrence
from hpcembed.runtime.errors import ConfigError, ConvergenceError, InputError
from hpcembed.runtime.memory import available_per_rank, check_fits
from hpcembed.runtime.ranks import agreement

__all__ = ["WordVectors"]

Self = TypeVar("Self", bound="WordVectors")

#: Documents that are averaged at once.
_STEP = 4096


class WordVectors(Certificate, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Vectors of words, and of documents as weighted averages of them.

    Parameters
    ----------
    n_components : int
        At most the number of words.
    window : int
        Positions to each side that count as near.
    weighting : {"none", "harmonic", "linear"}
        Weight of distance s: 1, 1 / s, or (window - s + 1) / window.
    skip_unknown : bool
        Take words that are not in the vocabulary out before distances are measured.
    shift : float
        k: information is lowered by log k; 1 for no shift.
    smoothing : float
        Exponent of the context distribution; 1 for none.
    power : float
        p of ``U |Lambda|^p``: 0 for the eigenvectors themselves.
    document_weights : {"idf", "sif", "none"}
        Weight of a word in a document: ``log((1 + n) / (1 + df)) + 1`` with its document frequency;
        ``sif / (sif + share)`` with its share of all words (Arora, Liang, Ma, ICLR 2017, whose
        removal of a common component is not done); or 1.
    sif : float
    min_df, max_df : float
        Documents that a word must or may be in: a number from 1 on, below that a share; at 1.0
        `max_df` is a share. Without effect where the vocabulary is given.
    max_features : int
        Keep that many words, those with the most occurrences; 0 keeps all.
    tol : float
        Largest true residual, relative to the largest modulus of an eigenvalue.
    random_state : int, RandomState or None
        Of the start vector; None is 0, so that results repeat.
    buffer_bytes : int
        Memory of a rank for counting, see
        :mod:`hpcembed.operators.cooccurrence.word_cooccurrence`.
    solver : SolverSettings, optional
        MIRAMns or Krylov-Schur; ``criterion="relative"`` makes `tol` relative to each eigenvalue.

    Attributes
    ----------
    vectors_ : ndarray of shape (n_words, k)
        On every rank.
    eigenvalues_ : ndarray of shape (k,)
        Largest modulus first.
    residual_norms_ : ndarray of shape (k,)
        ``||M u - lambda u||`` in double.
    vocabulary_ : dict of str to int
        Row of each word.
    terms_ : ndarray of str, shape (n_words,)
    term_frequencies_, document_frequencies_ : ndarray of int, shape (n_words,)
    n_documents_ : int
    n_nonzeros_ : int
        Entries of M.
    result_, reference_, comparison_, certified_, converged_reason_
        The solver's answer and the verdict on it; rows of the eigenvectors distributed.
    seconds_ : dict of str to float
        Wall time of ``information`` (with counting) and ``solve`` on the slowest rank.
    """

    def __init__(
        self,
        n_components: int = 100,
        *,
        window: int = 5,
        weighting: Literal["none", "harmonic", "linear"] = "none",
        skip_unknown: bool = False,
        shift: float = 1.0,
        smoothing: float = 0.75,
        power: float = 0.5,
        document_weights: Literal["idf", "sif", "none"] = "idf",
        sif: float = 1e-3,
        min_df: float = 1,
        max_df: float = 1.0,
        max_features: int = 0,
        tol: float = 1e-6,
        random_state: Any = None,
        buffer_bytes: int = BUFFER_BYTES,
        solver: SolverSettings | None = None,
    ) -> None:
        self.n_components = n_components
        self.window = window
        self.weighting = weighting
        self.skip_unknown = skip_unknown
        self.shift = shift
        self.smoothing = smoothing
        self.power = power
        self.document_weights = document_weights
        self.sif = sif
        self.min_df = min_df
        self.max_df = max_df
        self.max_features = max_features
        self.tol = tol
        self.random_state = random_state
        self.buffer_bytes = buffer_bytes
        self.solver = solver

    def fit(
        self: Self,
        documents: Any,
        y: Any = None,
        *,
        vocabulary: Any = None,
        comm: MPI.Intracomm | None = None,
    ) -> Self:
        """Find the vectors of the words of documents.

        Collective on `comm`, or on the communicator of
        :class:`~hpcembed.data.text.documents.Documents`.

        Parameters
        ----------
        documents : Documents, sequence of str, sequence of lists of str, or TokenDocuments
            This rank's, perhaps none. Texts are split as scikit-learn's vectorisers do, lists of
            words are taken as they are. Numbers of terms (TokenDocuments, or a sequence of integer
            arrays; -1 for unknown words) need `vocabulary`; a pair (numbers, vocabulary) is the
            same.
        y : ignored
        vocabulary : Vocabulary or sequence of str, optional
            The words in the order of their numbers. Default: learned, within `min_df` to
            `max_features`, in the order of their code points.
        comm : MPI.Comm, optional
            The ranks that hold the other documents.

        Raises
        ------
        InputError, ConfigError
            Documents or settings that cannot be used.
        MemoryLimitError
            When a rank has no room for the vectors.
        ConvergenceError
            When a pair missed its tolerance and ``solver.on_no_convergence`` is "raise".
        """
        if isinstance(documents, tuple) and len(documents) == 2 and vocabulary is None:
            documents, vocabulary = documents
        if comm is None:
            own = documents.comm if isinstance(documents, Documents) else MPI.COMM_SELF
            comm = cast(MPI.Intracomm, own)
        documents = documents.texts if isinstance(documents, Documents) else documents
        settings = self._checked_settings(comm)
        corpus = corpus_of(
            documents,
            vocabulary,
            comm,
            min_df=self.min_df,
            max_df=self.max_df,
            max_features=self.max_features,
        )
        n, k = len(corpus.terms), int(self.n_components)
        if k > n:
            raise InputError(
                f"need 1 <= n_components <= words, got n_components={k} with {n} words"
            )
        # gathered vectors, and as much on the way
        check_fits(16 * n * k, available_per_rank(comm), "word vectors", "ask for fewer components")
        self.vocabulary_ = {term: i for i, term in enumerate(corpus.terms)}
        self.terms_ = np.array(corpus.terms, dtype=object)
        self.term_frequencies_ = corpus.term_frequencies
        self.document_frequencies_ = corpus.document_frequencies
        self.n_documents_ = corpus.n_documents
        window = Window(self.window, self.weighting, self.skip_unknown)
        found = information_pairs(
            comm,
            lambda: cooccurrence(
                corpus.documents, n, comm, window=window, buffer_bytes=self.buffer_bytes
            ),
            settings,
        )
        self.vectors_, self.n_nonzeros_ = found.vectors, found.n_nonzeros
        self.eigenvalues_ = np.asarray(found.result.eigenvalues)
        self.residual_norms_ = np.asarray(found.result.residual_norms)
        self.seconds_ = found.seconds
        self._judge(comm, found.result, found.reference, tol=self.tol, n_requested=k)
        if not self.certified_ and settings.solver.on_no_convergence == "raise":
            raise ConvergenceError(self.failure_text(), self.result_)
        return self

    def _checked_settings(self, comm: MPI.Intracomm) -> InformationSettings:
        """Refuse settings that make no sense or differ between ranks. Collective."""
        with agreement(comm):
            check_limits(self.tol, None, None)
            Window(self.window, self.weighting, self.skip_unknown).check()
            if self.document_weights not in ("idf", "sif", "none"):
                raise ConfigError(
                    f"document_weights = {self.document_weights!r} is not one of idf, sif, none"
                )
            is_number = isinstance(self.sif, int | float | np.number)
            if not is_number or isinstance(self.sif, bool) or not 0 < self.sif < np.inf:
                raise ConfigError(f"sif must be a positive number, got {self.sif!r}")
            settings = InformationSettings(
                self.n_components,
                self.shift,
                self.smoothing,
                self.power,
                self.tol,
                seed_of(self.random_state),
                self.solver or SolverSettings(),
            )
            settings.check()
        shared = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in ("random_state", "buffer_bytes", "solver")
        }
        same_on_all_ranks(comm, **shared)
        return settings

    def transform(self, documents: Any) -> NDArray[np.float64]:
        """Vectors of documents: averages of the vectors of their words, by `document_weights`.

        Not collective.

        Parameters
        ----------
        documents : Documents, sequence of str, sequence of lists of str, or TokenDocuments
            As for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_local, k)
            Words that are not in the vocabulary are left out; documents without any known word are
            rows of zeros.

        Raises
        ------
        InputError
        """
        check_is_fitted(self)
        texts = documents.texts if isinstance(documents, Documents) else documents
        numbers = as_numbers(texts, self.vocabulary_)
        numbers.check(len(self.terms_))
        weights = self.word_weights()
        embedded = np.zeros((numbers.n_documents, self.vectors_.shape[1]))
        for first in range(0, numbers.n_documents, _STEP):
            rows = weighted_rows(numbers, weights, first, first + _STEP)
            totals = rows @ np.ones(len(weights))
            part = embedded[first : first + _STEP]
            part[:] = rows @ self.vectors_
            part /= np.where(totals > 0, totals, 1.0)[:, None]
        return embedded

    def word_weights(self) -> NDArray[np.float64]:
        """Weight of each word in a document, shape (n_words,). Not collective."""
        check_is_fitted(self)
        if self.document_weights == "idf":
            return np.log((1 + self.n_documents_) / (1 + self.document_frequencies_)) + 1
        if self.document_weights == "sif":
            share = self.term_frequencies_ / max(int(self.term_frequencies_.sum()), 1)
            return self.sif / (self.sif + share)
        return np.ones(len(self.terms_))

    def nearest(self, word: str, n: int = 10) -> list[tuple[str, float]]:
        """The words whose vectors have the largest cosines with that of `word`, largest first.

        Not collective. Ties come in the order of the vocabulary.

        Raises
        ------
        InputError
            A word that is not known, or whose vector is zero as it stands near no other.
        """
        check_is_fitted(self)
        place = self.vocabulary_.get(word)
        if place is None:
            raise InputError(f"{word!r} is not in the vocabulary of {len(self.terms_)} words")
        norms = np.linalg.norm(self.vectors_, axis=1)
        if norms[place] == 0:
            raise InputError(f"the vector of {word!r} is zero: it stands near no word of note")
        known = np.where(norms > 0, norms, 1.0)
        cosines = self.vectors_ @ self.vectors_[place] / (known * norms[place])
        order = [int(i) for i in np.argsort(-cosines, kind="stable") if i != place]
        return [(str(self.terms_[i]), float(cosines[i])) for i in order[:n]]

    @property
    def _n_features_out(self) -> int:
        return int(self.vectors_.shape[1])

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks: documents in, not tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
