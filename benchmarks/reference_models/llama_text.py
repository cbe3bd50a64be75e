"""Tokens of the language models: tokenizers, windows, generated text and perplexity."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional

from hpcembed.runtime.errors import InputError

__all__ = [
    "ByteLevelTokenizer",
    "StoriesTokenizer",
    "TextTokenizer",
    "generate",
    "perplexity",
    "token_windows",
]

#: Positions whose logits are held in double at a time.
LOSS_ROWS = 256


class TextTokenizer(Protocol):
    """Text to tokens and back."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, token_ids: Sequence[int]) -> str: ...


class StoriesTokenizer:
    """Tokenizer of the stories: merges by score, bytes for unknown characters.

    Parameters
    ----------
    path : path
        File of llama2.c: the longest token's length (int32), then a score (float32), a length
        (int32) and the bytes of each token. Tokens 1 and 2 are the start and the end of a text;
        token 3 + b is the byte b.
    """

    START = 1

    def __init__(self, path: Path | str) -> None:
        content = Path(path).read_bytes()
        self.pieces: list[bytes] = []
        scores = []
        offset = 4
        try:
            while offset < len(content):
                score, length = struct.unpack_from("<fi", content, offset)
                offset += 8 + length
                self.pieces.append(content[offset - length : offset])
                scores.append(score)
        except struct.error as error:
            raise InputError(f"{path}: truncated tokenizer: download it again") from error
        for value in range(256):
            self.pieces[3 + value] = bytes([value])
        # Pieces of one character occur twice: as byte and as character. The character is later.
        self._ids = {piece: i for i, piece in enumerate(self.pieces) if i >= 3}
        self._scores = scores

    def encode(self, text: str) -> list[int]:
        """Tokens of a text without START; the text gets a space in front."""
        return [i for word in re.findall(r" ?[^ ]+| ", f" {text}") for i in self._word(word)]

    def _word(self, word: str) -> list[int]:
        ids = []
        for character in word:
            code = character.encode()
            ids += [self._ids[code]] if code in self._ids else [3 + byte for byte in code]
        while True:
            merges = [
                (self._scores[token], -i, token)
                for i in range(len(ids) - 1)
                if (token := self._ids.get(self.pieces[ids[i]] + self.pieces[ids[i + 1]]))
            ]
            if not merges:
                return ids
            _, negative, token = max(merges)
            ids[-negative : 2 - negative] = [token]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, without START and without the space that follows it."""
        stories: list[bytes] = []
        for token in token_ids:
            if token == self.START or not stories:
                stories.append(b"")
            if token != self.START:
                stories[-1] += self.pieces[token]
        return "".join(s.removeprefix(b" ").decode("utf-8", "replace") for s in stories)


class ByteLevelTokenizer:
    """Byte-level pair encoding with single digits, the type of SmolLM2.

    Parameters
    ----------
    tokens : sequence of str
    merges : sequence of str
        Pairs separated by a space, by rank.
    special : sequence of str
        Tokens that a text contains whole, never as a result of merges.
    """

    def __init__(
        self, tokens: Sequence[str], merges: Sequence[str], special: Sequence[str] = ()
    ) -> None:
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
        vocabulary = {token: i for i, token in enumerate(tokens)}
        self.tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        self.tokenizer.decoder = decoders.ByteLevel()
        self.tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=False)
        return text


def token_windows(
    text: str, tokenizer: TextTokenizer, length: int, count: int, seed: int | None = None
) -> Tensor:
    """Non-overlapping windows of the tokens of a text, for calibration.

    Parameters
    ----------
    text : str
    tokenizer : TextTokenizer
    length, count : int
        Tokens of a window, and number of windows.
    seed : int, optional
        Seed of a random choice of windows. By default, windows at equal distances.

    Returns
    -------
    Tensor of int64, shape (count, length)

    Raises
    ------
    InputError
        The text has fewer windows.
    """
    tokens = torch.tensor(tokenizer.encode(text), dtype=torch.int64)
    available = len(tokens) // length
    if not 1 <= count <= available:
        raise InputError(
            f"{len(tokens)} tokens are {available} windows of {length}, not {count}: "
            "use a longer text, shorter windows or fewer"
        )
    windows = tokens[: available * length].view(available, length)
    if seed is None:
        rows = torch.arange(count) * available // count
    else:
        rows = torch.randperm(available, generator=torch.Generator().manual_seed(seed))[:count]
    return windows[rows]


@torch.no_grad()
def perplexity(
    model: nn.Module,
    token_ids: Tensor | Sequence[int],
    length: int,
    count: int | None = None,
    batch_size: int = 1,
) -> float:
    """Perplexity on non-overlapping windows: exp of the mean loss of their tokens but the first.

    Parameters
    ----------
    model : Module
        Network from tokens (n, length) to logits (n, length, vocabulary).
    token_ids : tensor or sequence of int, shape (n,)
        Tokens of the text. Those behind the last full window are not used.
    length : int
        Tokens of a window.
    count : int, optional
        Windows to use, from the start of the text. By default, all.
    batch_size : int, default 1
        Windows for each call of the network.

    Raises
    ------
    InputError
        The text is shorter than a window.
    """
    tokens = torch.as_tensor(token_ids, dtype=torch.int64)
    windows = tokens[: len(tokens) // length * length].view(-1, length)[:count]
    if len(windows) == 0 or length < 2:
        raise InputError(f"{len(tokens)} tokens contain no window of {length}: use a longer text")
    loss = 0.0
    for start in range(0, len(windows), batch_size):
        batch = windows[start : start + batch_size]
        logits = model(batch)[:, :-1].flatten(0, 1)
        targets = batch[:, 1:].flatten()
        for row in range(0, len(targets), LOSS_ROWS):
            rows = slice(row, row + LOSS_ROWS)
            loss += float(
                functional.cross_entropy(logits[rows].double(), targets[rows], reduction="sum")
            )
    return math.exp(loss / (len(windows) * (length - 1)))


@torch.no_grad()
def generate(
    model: nn.Module, start: Tensor, length: int, temperature: float = 0.0, seed: int = 0
) -> Tensor:
    """Continuations of token sequences.

    Parameters
    ----------
    model : Module
    start : Tensor of int64, shape (n, m)
        First tokens of the n sequences.
    length : int
        Tokens of the results.
    temperature : float, default 0
        0 takes the most probable token. 1 draws from the model's distribution.
    seed : int, default 0

    Returns
    -------
    Tensor of int64, shape (n, length)
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = start
    while tokens.shape[1] < length:
        logits = model(tokens)[:, -1]
        if temperature == 0:
            chosen = logits.argmax(dim=1, keepdim=True)
        else:
            probabilities = torch.softmax(logits / temperature, dim=1)
            chosen = torch.multinomial(probabilities, 1, generator=generator)
        tokens = torch.cat((tokens, chosen), dim=1)
    return tokens
