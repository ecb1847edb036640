"""The tokenizer and chat template of a Hugging Face folder, without transformers."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from rvpo_jax.basics.files import read_object
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.data.tokenizer import render_messages

# How Qwen splits text before its merges: each digit is a piece of its own.
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class HfTokenizer:
    """The tokenizer of a folder: ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.

    Stop tokens are those of ``generation_config.json``, else the tokenizer's end token.

    Args:
      folder: a Hugging Face folder.

    Raises:
      ValueError: if a file is missing or cannot be used, or no token ends a completion.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self._config = _read(folder / "tokenizer_config.json")
        self._tokenizer = _load(folder, self._config)
        self._template = _template(folder, self._config)
        self.eos_id = self._stop_ids(folder)
        pad = self._tokenizer.token_to_id(_text(self._config.get("pad_token")))
        self.pad_id = self.eos_id[0] if pad is None else pad

    @property
    def name(self) -> str:
        """Short name that changes with the vocabulary."""
        text = self._tokenizer.to_str() + repr(self.eos_id)
        return f"hf-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; the model may have more."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def render(self, prompt: str | Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The text of a prompt: itself, or messages in the model's own template.

        Args:
          prompt: a text, or messages with ``role`` and ``content``.
          **variables: further names that the template knows, such as ``tools``.

        Returns:
          The text to encode, open for the assistant's turn.

        Raises:
          ValueError: if the template refuses the messages or fails.
        """
        if isinstance(prompt, str):
            return prompt
        if self._template is None:
            return render_messages(prompt)
        special = {
            name: _text(value)
            for name, value in self._config.items()
            if name.endswith("_token") and isinstance(value, (str, Mapping))
        }
        given = {"messages": list(prompt), "add_generation_prompt": True, **special, **variables}
        try:
            return self._template.render(given)
        except (jinja2.TemplateError, TypeError, ValueError, RecursionError) as error:
            raise Refusal(
                f"the model's chat template cannot render this prompt: {printable(error)}.",
                "Give the messages that the model expects, or a text.",
            ) from None

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens in it are recognised, none is added."""
        safe = text.encode("utf-8", "replace").decode()  # a lone surrogate has no UTF-8 form
        return self._tokenizer.encode(safe, add_special_tokens=False).ids

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """The text of each row of ids; special tokens leave no trace."""
        rows = [[int(i) for i in ids] for ids in batch]
        return self._tokenizer.decode_batch(rows, skip_special_tokens=True)

    def _stop_ids(self, folder: Path) -> tuple[int, ...]:
        stated = _read(folder / "generation_config.json").get("eos_token_id")
        ids = stated if isinstance(stated, list) else [stated]
        found = tuple(i for i in ids if type(i) is int and i >= 0)
        if not found:
            end = self._tokenizer.token_to_id(_text(self._config.get("eos_token")))
            found = () if end is None else (end,)
        if not found:
            raise Refusal(
                f"model.path must name a token that ends a completion, got {folder} without "
                "eos_token_id in generation_config.json and eos_token in tokenizer_config.json.",
                "Download the whole folder of the model.",
            )
        return found


def _load(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        return _from_merges(folder, config)
    except Refusal:
        raise
    except Exception as error:  # the library raises bare Exceptions for files it cannot read
        raise Refusal(
            f"model.path must hold tokenizer.json, or vocab.json and merges.txt, got {folder}: "
            f"{printable(error)}.",
            "Download the whole folder of the model.",
        ) from None


def _from_merges(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """A byte-level BPE; Qwen's and GPT-2's differ in how they split text before it."""
    bpe = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = Tokenizer(bpe)
    vocabulary, added = tokenizer.get_vocab(), _read(folder / "added_tokens.json")
    if "Qwen" in str(config.get("tokenizer_class")) or "<|im_start|>" in added:
        split = pre_tokenizers.Split(Regex(_QWEN_SPLIT), "isolated")
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, plain])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    described = config.get("added_tokens_decoder", {})
    special = {entry["content"]: entry.get("special", False) for entry in described.values()}
    known = (_text(value) for name, value in config.items() if name.endswith("_token"))
    ends = [
        AddedToken(text, special=True, normalized=False) for text in known if text in vocabulary
    ]
    tokenizer.add_tokens(ends)
    for text in sorted(added, key=added.__getitem__):
        # Where nothing says which are special: those that look it. <tool_call> stays text.
        is_special = special.get(text, text.startswith("<|"))
        tokenizer.add_tokens([AddedToken(text, special=is_special, normalized=False)])
        if tokenizer.token_to_id(text) != added[text]:
            raise Refusal(
                f"added_tokens.json of model.path {folder} gives {printable(text)} the id "
                f"{added[text]}, which does not follow on vocab.json.",
                "Its files belong to different models.",
            )
    return tokenizer


def _template(folder: Path, config: Mapping[str, Any]) -> jinja2.Template | None:
    """The chat template, compiled once; None where the folder has none."""
    file = folder / "chat_template.jinja"
    try:
        source = file.read_text("utf-8") if file.is_file() else config.get("chat_template")
        if isinstance(source, list):  # several, by name
            source = {entry["name"]: entry["template"] for entry in source}.get("default")
        return None if source is None else _environment().from_string(source)
    except (OSError, ValueError, TypeError, LookupError, jinja2.TemplateError) as error:
        raise Refusal(
            f"the chat template of model.path {folder} cannot be read: {printable(error)}.",
            "Download it again.",
        ) from None


def _environment() -> jinja2.Environment:
    """What templates are written for: transformers' environment, in jinja2's sandbox."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment


def _text(token: Any) -> str:
    """A token as the configs write it: its text, or a description that holds it."""
    return str(token.get("content", "")) if isinstance(token, Mapping) else str(token or "")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file."""
    found, problem = read_object(path) if path.exists() else ({}, "")
    if found is None:
        raise Refusal(
            f"{path.name} of model.path must hold a JSON object, got {path}, {problem}.",
            "Download it again.",
        )
    return found
