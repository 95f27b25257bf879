"""A tokenizer.json made of vocab.json and merges.txt, the older files of a byte-level BPE.

Knows no added tokens. These files do not say how text is split into words: the class
that reads them does, so only classes whose way is known are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.config import Config, read_json
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.tokenizer.pretokenizer import GPT2, QWEN2

# by transformers' class without "Fast"
_SPLITS: Mapping[str, tuple[str, str | None]] = {
    "GPT2Tokenizer": (GPT2, None),
    "Qwen2Tokenizer": (QWEN2, "NFC"),
}
_CLASS_OF_MODEL = {
    "qwen2": "Qwen2Tokenizer",
    "qwen2_moe": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "qwen3_moe": "Qwen2Tokenizer",
}
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "additional_special_tokens")


def has_vocab_and_merges(directory: Path) -> bool:
    return (directory / "vocab.json").exists() and (directory / "merges.txt").exists()


def tokenizer_from_vocab_and_merges(
    directory: Path, config: Config, tokenizer_config: Mapping[str, Any], special: Mapping[str, Any]
) -> dict[str, Any]:
    """`special` is special_tokens_map.json.

    Raises `UnsupportedModel` with the line that makes a tokenizer.json, where the files'
    class is not known here; `DamagedCheckpoint` for malformed files.
    """
    expression, normalizer = _split_of(directory, config, tokenizer_config)
    vocab = read_json(directory / "vocab.json")
    if not all(type(token_id) is int for token_id in vocab.values()):
        raise DamagedCheckpoint(f"{directory / 'vocab.json'} has ids that are no whole numbers.")
    if tokenizer_config.get("add_prefix_space") and expression != GPT2:
        raise UnsupportedModel(
            f"{directory / 'tokenizer_config.json'} asks for a space before every text "
            "(add_prefix_space), which is known of GPT-2's class alone."
        )
    bytes_as_text = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": _merges(directory / "merges.txt"),
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _special_tokens(vocab, tokenizer_config, special),
        "normalizer": None if normalizer is None else {"type": normalizer},
        "pre_tokenizer": _pre_tokenizer(expression, bytes_as_text, tokenizer_config),
        "post_processor": None,
        "decoder": {**bytes_as_text},
        "model": model,
    }


def _pre_tokenizer(
    expression: str, bytes_as_text: dict[str, Any], tokenizer_config: Mapping[str, Any]
) -> dict[str, Any]:
    if tokenizer_config.get("add_prefix_space"):  # with GPT-2's own expression
        return {**bytes_as_text, "add_prefix_space": True, "use_regex": True}
    split = {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, bytes_as_text]}


def _split_of(
    directory: Path, config: Config, tokenizer_config: Mapping[str, Any]
) -> tuple[str, str | None]:
    name = tokenizer_config.get("tokenizer_class")
    if not isinstance(name, str):
        name = _CLASS_OF_MODEL.get(str(config.values.get("model_type")))
    known = _SPLITS.get(name.removesuffix("Fast")) if isinstance(name, str) else None
    if known is None:
        raise UnsupportedModel(
            f"{directory} has vocab.json and merges.txt, but no tokenizer.json, and it is not "
            f"known how its tokenizer ({name or 'without a tokenizer_class'}) splits text. With "
            'transformers installed, this makes a tokenizer.json: python -c "from transformers '
            f"import AutoTokenizer as T; T.from_pretrained('{directory}')"
            f".save_pretrained('{directory}')\""
        )
    return known


def _merges(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DamagedCheckpoint(f"{path} is not UTF-8: {error}") from error
    lines = [line.rstrip("\r") for line in lines]
    if lines and lines[0].startswith("#version"):
        lines = lines[1:]
    return [line for line in lines if line.strip()]


def _special_tokens(
    vocab: Mapping[str, int], tokenizer_config: Mapping[str, Any], special: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The tokens of the vocabulary that play a role: they are found in text as a whole."""
    found: dict[int, str] = {}
    for source in (special, tokenizer_config):
        for role in _ROLES:
            entry = source.get(role)
            for item in entry if isinstance(entry, list) else [entry]:
                text = item.get("content") if isinstance(item, dict) else item
                if isinstance(text, str) and text in vocab:
                    found[vocab[text]] = text
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": token_id, "content": found[token_id], "special": True, **flags}
        for token_id in sorted(found)
    ]
