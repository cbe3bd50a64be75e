"""Text without MPI: cleaning, tokens, a vocabulary, and rows of weighted terms."""

from hpcembed.text.cleaning import TextRules
from hpcembed.text.term_rows import TermRows, TermWeights
from hpcembed.text.tokens import TokenIds, index_tokens, tokenise
from hpcembed.text.vocabulary import Vocabulary

__all__ = [
    "TermRows",
    "TermWeights",
    "TextRules",
    "TokenIds",
    "Vocabulary",
    "index_tokens",
    "tokenise",
]
