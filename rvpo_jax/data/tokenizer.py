"""Text to token ids and back: a tokenizer that needs no file, and the chat template.

``B`` prompts, ``P`` prompt tokens. Strings end here: everything behind ``pad_prompts`` is arrays.
"""

import collections
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from rvpo_jax.basics.refusals import Refusal

NUM_SPECIAL = 2  # pad and eos come before the bytes
FIRST_PIECE = NUM_SPECIAL + 256
REPLACEMENT = "\ufffd".encode()  # of an id that the tokenizer does not have


class Tokenizer(Protocol):
    """The seam between a run and a tokenizer: all that a run knows of one."""

    @property
    def name(self) -> str:
        """Short name that changes with the vocabulary."""

    @property
    def vocab_size(self) -> int:
        """Number of ids; the policy may have more."""

    @property
    def pad_id(self) -> int:
        """Id of padding."""

    @property
    def eos_id(self) -> int | Sequence[int]:
        """Id, or ids, that end a completion."""

    def render(self, prompt: str | Sequence[Mapping[str, Any]]) -> str:
        """The text of a prompt: itself, or messages in the template of the model."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without padding and without an end."""

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """The text of each row of ids; padding and ends leave no trace."""


class ByteTokenizer:
    """UTF-8 bytes as tokens, with whole pieces of text as further tokens. Lossless.

    Ids: 0 pad, 1 eos, 2 to 257 the bytes, then one per piece in the order given. At each place of
    the text the longest piece that fits is taken. A lone surrogate is the one character that does
    not come back: it encodes to its three bytes and decodes to replacement characters, so that no
    decoded text can break a file or a log.

    Args:
      pieces: Texts that become one token each, for example tags. Not empty, none twice.

    Raises:
      ValueError: if a piece is empty, not a text, or there twice.

    >>> tokenizer = ByteTokenizer(["<tool_call>"])
    >>> tokenizer.encode("a<tool_call>")
    [99, 258]
    >>> tokenizer.decode([0, 99, 258, 1])
    'a<tool_call>'
    """

    pad_id = 0
    eos_id = 1

    def __init__(self, pieces: Sequence[str] = ()) -> None:
        check_pieces(pieces)
        self.pieces = tuple(pieces)
        self._piece_ids = {piece: FIRST_PIECE + i for i, piece in enumerate(self.pieces)}
        longest_first = sorted(self.pieces, key=len, reverse=True)
        # The group makes split() keep the pieces: they stand at the odd places of its result.
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._bytes = [b""] * NUM_SPECIAL + [bytes([byte]) for byte in range(256)]
        self._bytes += [_to_bytes(piece) for piece in self.pieces]

    @property
    def vocab_size(self) -> int:
        """Number of ids: 258 and one per piece.

        >>> ByteTokenizer(["<a>", "<b>"]).vocab_size
        260
        """
        return len(self._bytes)

    @property
    def name(self) -> str:
        """Short name that changes with the pieces, to recognise the tokenizer of a checkpoint.

        >>> ByteTokenizer().name
        'bytes'
        """
        if not self.pieces:
            return "bytes"
        digest = hashlib.sha256(repr(self.pieces).encode()).hexdigest()
        return f"bytes+{len(self.pieces)}-{digest[:8]}"

    def render(self, prompt: str | Sequence[Mapping[str, Any]]) -> str:
        """See ``render_messages``: a tokenizer of bytes has no template of its own."""
        return render_messages(prompt)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without padding and without an end.

        Args:
          text: Any text.

        Returns:
          One id per piece found, and one per byte of the rest.
        """
        parts = self._pattern.split(text) if self.pieces else [text]
        ids: list[int] = []
        for place, part in enumerate(parts):
            if place % 2:
                ids.append(self._piece_ids[part])
            else:
                ids.extend(byte + NUM_SPECIAL for byte in _to_bytes(part))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; padding and ends leave no trace, and nothing stops at them.

        Bytes that are not UTF-8 and ids outside the vocabulary become replacement characters: a
        policy may write anything.

        Args:
          ids: Ids, as a list or an array of one axis.

        Returns:
          The text.

        >>> ByteTokenizer().decode([100, 1, 101, 0, 9999])
        'bc\ufffd'
        """
        known = len(self._bytes)
        parts = [self._bytes[i] if 0 <= i < known else REPLACEMENT for i in map(int, ids)]
        return b"".join(parts).decode("utf-8", errors="replace")

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """The text of each row of ids.

        Args:
          batch: Rows of ids, of any lengths.

        Returns:
          One text per row.

        >>> ByteTokenizer().decode_batch(np.array([[0, 99], [100, 1]]))
        ['a', 'b']
        """
        return [self.decode(ids) for ids in batch]


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {"bytes": ByteTokenizer}
"""Tokenizers by name."""


def check_pieces(pieces: Sequence[str]) -> None:
    """Raises where a list of pieces cannot become tokens."""
    if isinstance(pieces, str):
        raise Refusal(
            f"pieces must be a list of texts, got the text {pieces!r}.", "Put it in a list."
        )
    for piece in pieces:
        if not isinstance(piece, str) or not piece:
            raise Refusal(
                f"pieces must be texts that are not empty, got {piece!r}.", "Leave it out."
            )
    most_common = collections.Counter(pieces).most_common(1)
    if most_common and most_common[0][1] > 1:
        raise Refusal(
            f"pieces must differ, got {most_common[0][0]!r} twice.", "Each piece is one token."
        )


def render_messages(messages: str | Sequence[Mapping[str, Any]]) -> str:
    """Prompt text of a conversation in the ChatML template, open for the assistant's turn.

    A plain text passes unchanged. Fields of a message other than role and content are not shown.

    Args:
      messages: A text, or messages with the texts ``role`` and ``content``.

    Returns:
      The text to encode.

    Raises:
      ValueError: if a message is not an object with these two texts, or there is none.

    >>> print(render_messages([{"role": "user", "content": "Hi"}]), end="")
    <|im_start|>user
    Hi<|im_end|>
    <|im_start|>assistant
    """
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, Sequence) or len(messages) == 0:
        raise Refusal(
            f"messages must be a text or a list with at least one message, got {messages!r:.80}.",
            'A message is {"role": "user", "content": "..."}.',
        )
    turns = [_render_message(place, message) for place, message in enumerate(messages)]
    return "".join(turns) + "<|im_start|>assistant\n"


def pad_prompts(
    list_of_ids: Sequence[Sequence[int]], max_len: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as one array, padded on the left so that all end where the completions begin.

    Args:
      list_of_ids: ``B`` prompts of 1 to ``max_len`` ids.
      max_len: ``P``, the width of the result in tokens.
      pad_id: Fills the unused places; a prompt may contain it, the mask tells them apart.

    Returns:
      ``[B, P]`` int32 prompts, and ``[B, P]`` bool, True on the prompt's own tokens.

    Raises:
      ValueError: if a prompt is empty or longer than ``max_len``.

    >>> prompts, mask = pad_prompts([[7, 8], [9]], max_len=3, pad_id=0)
    >>> prompts.tolist()
    [[0, 7, 8], [0, 0, 9]]
    >>> mask.sum(axis=1).tolist()
    [2, 1]
    """
    prompts = np.full((len(list_of_ids), max_len), pad_id, dtype=np.int32)
    mask = np.zeros((len(list_of_ids), max_len), dtype=bool)
    for row, ids in enumerate(list_of_ids):
        if not 0 < len(ids) <= max_len:
            raise Refusal(
                f"prompt {row} must have 1 to max_len = {max_len} tokens, got {len(ids)}.",
                "Raise max_len, or drop such prompts first (rvpo_jax.data.drop_long).",
            )
        prompts[row, max_len - len(ids) :] = ids
        mask[row, max_len - len(ids) :] = True
    return prompts, mask


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def _render_message(place: int, message: object) -> str:
    if not isinstance(message, Mapping):
        raise Refusal(
            f"message {place} must be an object with role and content, got {message!r:.80}.",
            'For example {"role": "user", "content": "..."}.',
        )
    for field in ("role", "content"):
        if not isinstance(message.get(field), str):
            raise Refusal(
                f"{field} of message {place} must be a text, got {message.get(field)!r:.80}.",
                "Parts of a message, tool calls and images are not rendered: write them as text.",
            )
    return f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
