"""Text without MPI: cleaning, tokens, a vocabulary, and rows of weighted terms."""

from hpcembed.data.text.cleaning import TextRules
from hpcembed.data.text.tokens import TokenIds, index_tokens, tokenise
from hpcembed.data.text.vectoriser import TermRows, TermWeights
from hpcembed.data.text.vocabulary import Vocabulary

__all__ = [
    "TermRows",
    "TermWeights",
    "TextRules",
    "TokenIds",
    "Vocabulary",
    "index_tokens",
    "tokenise",
]
