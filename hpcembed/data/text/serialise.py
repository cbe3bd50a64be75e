"""A vectoriser as JSON text, which is stored with a model that takes texts.

Numbers keep all their digits, so the rows of a deployed model equal those of its training to the
last bit.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from hpcembed.data.text.cleaning import TextRules
from hpcembed.data.text.tokens import PATTERN
from hpcembed.data.text.vectoriser import TermWeights, Vectoriser
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.runtime.errors import HpcembedError

__all__ = ["VECTORISER_FILE", "vectoriser_from_json", "vectoriser_to_json"]

#: Name of the file in the folder of a run and of a model.
VECTORISER_FILE = "text.json"

_FORMAT, _VERSION = "hpcembed text", 1


def vectoriser_to_json(vectoriser: Vectoriser) -> str:
    """Serialise vocabulary, weights and cleaning rules.

    Examples
    --------
    >>> vectoriser = Vectoriser(Vocabulary(["sea"], [1], [2], n_documents=1), TermWeights())
    >>> vectoriser_from_json(vectoriser_to_json(vectoriser)).vocabulary.terms
    ('sea',)
    """
    vocabulary, relevance = vectoriser.vocabulary, vectoriser.relevance
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "token": PATTERN,
        "rules": dataclasses.asdict(vectoriser.rules),
        "weights": dataclasses.asdict(vectoriser.weights),
        "n_documents": vocabulary.n_documents,
        "terms": list(vocabulary.terms),
        "document_frequencies": vocabulary.document_frequencies.tolist(),
        "term_frequencies": vocabulary.term_frequencies.tolist(),
        "relevance": None if relevance is None else relevance.tolist(),
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def vectoriser_from_json(text: str) -> Vectoriser:
    """Return the vectoriser that :func:`vectoriser_to_json` serialised.

    Raises
    ------
    ValueError
        Text of another kind or version, with the reason.
    """
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise ValueError(f"not {_FORMAT} of version {_VERSION}")
        if content["token"] != PATTERN:
            raise ValueError("another token pattern")
        vocabulary = Vocabulary(
            content["terms"],
            content["document_frequencies"],
            content["term_frequencies"],
            content["n_documents"],
        )
        counts = vocabulary.document_frequencies
        if len(vocabulary) and not 1 <= counts.min() <= counts.max() <= vocabulary.n_documents:
            raise ValueError("document frequencies that do not fit the number of documents")
        relevance = content["relevance"]
        if relevance is not None:
            relevance = np.array(relevance, dtype=np.float64)
            if relevance.shape != (len(vocabulary),) or not np.isfinite(relevance).all():
                raise ValueError("relevance factors that do not fit the terms")
        weights, rules = TermWeights(**content["weights"]), TextRules(**content["rules"])
        return Vectoriser(vocabulary, weights, relevance, rules)
    except (
        KeyError, TypeError, AttributeError, RecursionError, OverflowError, HpcembedError,
    ) as error:  # fmt: skip
        raise ValueError(f"{type(error).__name__}: {error}") from error
