"""What makes rows of texts, as JSON: it lies beside a trained model, which needs such rows.

Numbers keep all their digits, so a model's rows are to the bit those that it was trained on.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from hpcembed.data.text.cleaning import TextRules
from hpcembed.data.text.tokens import PATTERN
from hpcembed.data.text.vectoriser import TermRows, TermWeights
from hpcembed.data.text.vocabulary import Vocabulary
from hpcembed.runtime.errors import HpcembedError

__all__ = ["FILE", "from_json", "to_json"]

#: Name of the file in a run's folder and in a model's.
FILE = "text.json"

_FORMAT, _VERSION = "hpcembed text", 1


def to_json(term_rows: TermRows) -> str:
    """Vocabulary, weights and rules as JSON. Not collective."""
    vocabulary, relevance = term_rows.vocabulary, term_rows.relevance
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "token": PATTERN,
        "rules": dataclasses.asdict(term_rows.rules),
        "weights": dataclasses.asdict(term_rows.weights),
        "n_documents": vocabulary.n_documents,
        "terms": list(vocabulary.terms),
        "document_frequencies": vocabulary.document_frequencies.tolist(),
        "term_frequencies": vocabulary.term_frequencies.tolist(),
        "relevance": None if relevance is None else relevance.tolist(),
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> TermRows:
    """The reverse of :func:`to_json`. Not collective.

    Raises
    ------
    ValueError
        Text that is none of it, or of another version; the reason.
    """
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise ValueError(f"not {_FORMAT} of version {_VERSION}")
        if content["token"] != PATTERN:
            raise ValueError("tokens of another kind")
        vocabulary = Vocabulary(
            content["terms"],
            content["document_frequencies"],
            content["term_frequencies"],
            content["n_documents"],
        )
        relevance = content["relevance"]
        if relevance is not None:
            relevance = np.array(relevance, dtype=np.float64)
            if relevance.shape != (len(vocabulary),) or not np.isfinite(relevance).all():
                raise ValueError("factors that do not belong to the terms")
        weights, rules = TermWeights(**content["weights"]), TextRules(**content["rules"])
        return TermRows(vocabulary, weights, relevance, rules)
    except (KeyError, TypeError, AttributeError, RecursionError, HpcembedError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
