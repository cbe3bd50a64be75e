"""Certified word vectors: dominant eigenvectors of the mutual information of words.

Words with similar neighbours get similar vectors. Words are counted within a window over the
documents of all ranks (:mod:`hpcembed.operators.cooccurrence.word_cooccurrence`), counts become
shifted positive pointwise mutual information M
(:mod:`hpcembed.operators.cooccurrence.mutual_information`), and with the eigenpairs ``M u = lambda
u`` of largest modulus the vector of word i is row i of ``U |Lambda|^p``. With p = 1/2 this is the
factorisation that word2vec's skip-gram with negative sampling approaches: Levy, Goldberg, "Neural
word embedding as implicit matrix factorization", NIPS 27 (2014); Levy, Goldberg, Dagan, TACL 3
(2015).

Deviation. M is symmetric here (see :mod:`hpcembed.operators.cooccurrence.mutual_information`), so
that eigenpairs replace singular triplets: the modulus of an eigenvalue is the singular value, and
its sign is not used.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hpcembed.data.text.documents import Documents
from hpcembed.embedding._mutual_information import InformationEmbedding
from hpcembed.embedding._parameters import check_components
from hpcembed.embedding.protocol import Machine, Shape
from hpcembed.operators.cooccurrence.cooccurrence_plan import InformationPlan, plan_word_vectors
from hpcembed.operators.cooccurrence.corpus import as_numbers, corpus_of, weighted_rows
from hpcembed.operators.cooccurrence.distributed_sum import BUFFER_BYTES
from hpcembed.operators.cooccurrence.windows import Window
from hpcembed.operators.cooccurrence.word_cooccurrence import cooccurrence
from hpcembed.runtime.arguments import check_choice, is_number
from hpcembed.runtime.errors import ConfigError, InputError

__all__ = ["WordVectors"]

Self = TypeVar("Self", bound="WordVectors")

#: Documents that are averaged at once.
_STEP = 4096


@dataclass(eq=False, repr=False)
class WordVectors(ClassNamePrefixFeaturesOutMixin, TransformerMixin, InformationEmbedding):  # type: ignore[misc]
    """Vectors of words, and of documents as weighted averages of them.

    Parameters
    ----------
    n_components : int, default=100
        At most the number of words.
    window : int, default=5
        Positions to each side that count as near.
    weighting : {"none", "harmonic", "linear"}, default="none"
        Weight of distance s: 1, 1 / s, or (window - s + 1) / window.
    skip_unknown : bool, default=False
        Remove words that are not in the vocabulary before distances are measured.
    shift : float, default=1
        k: information is lowered by log k; 1 for no shift.
    smoothing : float, default=0.75
        Exponent of the context distribution; 1 for none.
    power : float, default=0.5
        p of ``U |Lambda|^p``: 0 for the eigenvectors themselves.
    document_weights : {"idf", "sif", "none"}, default="idf"
        Weight of a word in a document: ``log((1 + n) / (1 + df)) + 1`` with its document frequency;
        ``sif / (sif + share)`` with its share of all words (Arora, Liang, Ma, ICLR 2017, without
        their removal of a common component); or 1.
    sif : float, default=1e-3
    min_df, max_df : float
        Least and largest number of documents with a word, from 1 on; below that a share of the
        documents. ``max_df=1.0`` is a share. Ignored where the vocabulary is given.
    max_features : int, default=0
        Keep this many words, those with the most occurrences; 0 keeps all.
    tol : float, default=1e-6
        Largest true residual, relative to the largest modulus of an eigenvalue.
    random_state : int, RandomState or None, default=None
        Seed of the start vector; None is 0, so that results repeat.
    buffer_bytes : int
        Memory of a rank for counting, see :mod:`hpcembed.operators.cooccurrence.word_cooccurrence`.
    solver : SolverSettings, optional
        MIRAMns or Krylov-Schur; ``criterion="relative"`` makes `tol` relative to each eigenvalue.

    Attributes
    ----------
    vectors_ : ndarray of shape (n_words, k)
        On every rank.
    eigenvalues_ : ndarray of shape (k,)
        Largest modulus first.
    residual_norms_ : ndarray of shape (k,)
        ``||M u - lambda u||`` in double precision.
    vocabulary_ : dict of str to int
        Row of each word.
    terms_ : ndarray of str, shape (n_words,)
    term_frequencies_, document_frequencies_ : ndarray of int, shape (n_words,)
    n_documents_ : int
    n_nonzeros_ : int
        Entries of M.
    result_, reference_, comparison_, certified_, converged_reason_
        Result of the solver, and its certificate; rows of the eigenvectors distributed.
    plan_ : InformationPlan
    seconds_ : dict of str to float
        Wall time of ``operator`` (counting, and forming the information) and ``solve`` on the
        slowest rank.

    See Also
    --------
    CooccurrenceEmbedding : The same for rows of a table.

    Examples
    --------
    >>> from hpcembed import WordVectors
    >>> animals, skies = [["cat", "dog", "pet"], ["dog", "pet", "cat"]], [["sun", "moon", "sky"]]
    >>> model = WordVectors(2).fit((animals + skies) * 4)
    >>> model.vectors_.shape, model.certified_
    ((6, 2), True)
    >>> sorted(word for word, _ in model.nearest("cat", 2))
    ['dog', 'pet']
    >>> model.transform([["cat", "dog", "fish"]]).shape
    (1, 2)
    """

    n_components: int = 100
    _: KW_ONLY
    window: int = 5
    weighting: Literal["none", "harmonic", "linear"] = "none"
    skip_unknown: bool = False
    shift: float = 1.0
    smoothing: float = 0.75
    power: float = 0.5
    document_weights: Literal["idf", "sif", "none"] = "idf"
    sif: float = 1e-3
    min_df: float = 1
    max_df: float = 1.0
    max_features: int = 0
    tol: float = 1e-6
    buffer_bytes: int = BUFFER_BYTES

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
            Documents or parameters that cannot be used.
        MemoryLimitError
            If the vectors do not fit the memory of a rank.
        ConvergenceError
            If a pair is unconverged and ``solver.on_no_convergence`` is "raise".
        """
        if isinstance(documents, tuple) and len(documents) == 2 and vocabulary is None:
            documents, vocabulary = documents
        if comm is None:
            own = documents.comm if isinstance(documents, Documents) else MPI.COMM_SELF
            comm = cast(MPI.Intracomm, own)
        documents = documents.texts if isinstance(documents, Documents) else documents
        seed = self._start(comm)
        corpus = corpus_of(
            documents,
            vocabulary,
            comm,
            min_df=self.min_df,
            max_df=self.max_df,
            max_features=self.max_features,
        )
        n = len(corpus.terms)
        check_components(int(self.n_components), n, "words")
        machine = self._machine(comm)
        self.plan_ = self.plan(Shape(corpus.n_documents, 0, n, None, 8 * n), machine)
        self.vocabulary_ = {term: i for i, term in enumerate(corpus.terms)}
        self.terms_ = np.array(corpus.terms, dtype=object)
        self.term_frequencies_ = corpus.term_frequencies
        self.document_frequencies_ = corpus.document_frequencies
        self.n_documents_ = corpus.n_documents
        window = Window(self.window, self.weighting, self.skip_unknown)
        self.vectors_, found = self._find_vectors(
            comm,
            lambda: cooccurrence(
                corpus.documents, n, comm, window=window, buffer_bytes=self.buffer_bytes
            ),
            seed,
            machine.available_bytes,
        )
        self._certify(comm, *found)
        return self

    def plan(self, shape: Shape, machine: Machine) -> InformationPlan:
        """Return the plan that :meth:`fit` makes for ``shape.n_features`` words.

        Raises
        ------
        MemoryLimitError
            If the vectors do not fit.
        """
        k = min(int(self.n_components), shape.n_features)
        return plan_word_vectors(shape.n_features, k, machine)

    def _check_parameters(self) -> None:
        Window(self.window, self.weighting, self.skip_unknown).check()
        check_choice("document_weights", self.document_weights, ("idf", "sif", "none"))
        if not is_number(self.sif) or self.sif <= 0:
            raise ConfigError(f"sif must be a positive number, got {self.sif!r}")
        super()._check_parameters()

    def transform(self, documents: Any) -> NDArray[np.float64]:
        """Return vectors of documents: weighted averages of the vectors of their words.

        Not collective.

        Parameters
        ----------
        documents : Documents, sequence of str, sequence of lists of str, or TokenDocuments
            As for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_local, k)
            Words that are not in the vocabulary are ignored; documents without a known word are
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
        """Return the weight of each word in a document, shape (n_words,)."""
        check_is_fitted(self)
        if self.document_weights == "idf":
            return np.log((1 + self.n_documents_) / (1 + self.document_frequencies_)) + 1
        if self.document_weights == "sif":
            share = self.term_frequencies_ / max(int(self.term_frequencies_.sum()), 1)
            return self.sif / (self.sif + share)
        return np.ones(len(self.terms_))

    def nearest(self, word: str, n: int = 10) -> list[tuple[str, float]]:
        """Return words whose vectors have the largest cosines with that of `word`, and the cosines.

        The largest cosine comes first, ties in the order of the vocabulary.

        Raises
        ------
        InputError
            If the word is not known, or has no neighbours and thus a vector of zero.
        """
        check_is_fitted(self)
        place = self.vocabulary_.get(word)
        if place is None:
            raise InputError(f"{word!r} is not in the vocabulary of {len(self.terms_)} words")
        norms = np.linalg.norm(self.vectors_, axis=1)
        if norms[place] == 0:
            raise InputError(f"the vector of {word!r} is zero: it has no informative neighbours")
        known = np.where(norms > 0, norms, 1.0)
        cosines = self.vectors_ @ self.vectors_[place] / (known * norms[place])
        order = [int(i) for i in np.argsort(-cosines, kind="stable") if i != place]
        return [(str(self.terms_[i]), float(cosines[i])) for i in order[:n]]

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: input is documents, not tables."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
