"""WordPiece tokenizers (BERT), from tokenizer.json or vocab.txt,
as llama.cpp keeps them.

Knows no weights.

llama.cpp looks up words with a mark for the space before them ("▁word") and their
continuations bare ("ing"), where BERT's files have the words bare and the continuations
marked ("##ing") (`llm_tokenizer_wpm_session` in src/llama-vocab.cpp). It always splits
at whitespace, punctuation and Chinese characters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.gguf.header import boolean
from convert.tokenizer.deviation import Deviation
from convert.tokenizer.token_table import Token, TokenTable

WORD_MARK = "▁"
_ROLES = ("unk", "sep", "pad", "cls", "mask")


def wordpiece_table(tokenizer: dict[str, Any]) -> TokenTable:
    """Raises `UnsupportedModel` with the reason for a tokenizer
    that llama.cpp would not follow.
    """
    model = tokenizer["model"]
    vocab, prefix = model.get("vocab"), model.get("continuing_subword_prefix", "##")
    if not isinstance(vocab, dict) or not isinstance(prefix, str):
        raise DamagedCheckpoint("tokenizer.json has no vocabulary.")
    if not prefix:
        raise UnsupportedModel(
            "The tokenizer does not mark the continuations of words, which llama.cpp requires."
        )
    if (tokenizer.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
        raise UnsupportedModel(
            "llama.cpp splits words as BERT does and does not support the pre-tokenizer "
            f"{tokenizer.get('pre_tokenizer')}."
        )
    lowercase, strips_accents = _normalizer_flags(tokenizer.get("normalizer") or {})
    special = {entry["id"] for entry in tokenizer.get("added_tokens") or [] if entry.get("special")}
    tokens = {
        token_id: Token(text, TokenType.CONTROL)
        if token_id in special
        else _as_stored(text, prefix)
        for text, token_id in vocab.items()
    }
    return TokenTable(
        model="bert",
        pre="default",
        tokens=tokens,
        reference=tokenizer,
        fields=(
            boolean("tokenizer.ggml.normalizer.lowercase", lowercase),
            boolean("tokenizer.ggml.normalizer.strip_accents", strips_accents),
        ),
        deviations=frozenset(
            {Deviation.LONG_WORDS, *([Deviation.ACCENTS_AS_MARKS] if strips_accents else [])}
        ),
    )


def tokenizer_from_vocab_txt(path: Path, tokenizer_config: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer.json that says what BERT's older files say:
    one token a line, and a few flags.

    Defaults are those of transformers' `BertTokenizer`. Raises `DamagedCheckpoint` or
    `MissingFile`.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DamagedCheckpoint(f"{path} is not UTF-8: {error}") from error
    words = lines[:-1] if lines and not lines[-1] else lines
    vocab = {word.rstrip("\r"): token_id for token_id, word in enumerate(words)}
    if len(vocab) != len(words):
        raise DamagedCheckpoint(f"{path} contains a token twice.")
    special = {role: _special_text(tokenizer_config, role) for role in _ROLES}
    for role in ("unk", "sep", "cls"):
        if special[role] not in vocab:
            raise DamagedCheckpoint(
                f"{path} does not contain the token {special[role]}, which every text needs."
            )
    cls, sep = special["cls"], special["sep"]
    return {
        "version": "1.0",
        "added_tokens": [_added(vocab[text], text) for text in special.values() if text in vocab],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(tokenizer_config.get("tokenize_chinese_chars", True)),
            "strip_accents": tokenizer_config.get("strip_accents"),
            "lowercase": bool(tokenizer_config.get("do_lower_case", True)),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "BertProcessing",
            "sep": [sep, vocab[sep]],
            "cls": [cls, vocab[cls]],
        },
        "model": {
            "type": "WordPiece",
            "unk_token": special["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }


def _as_stored(text: str, prefix: str) -> Token:
    if text.startswith(prefix) and text != prefix:
        return Token(text[len(prefix) :], TokenType.NORMAL)
    return Token(WORD_MARK + text, TokenType.NORMAL)


def _normalizer_flags(normalizer: dict[str, Any]) -> tuple[bool, bool]:
    """Whether text is made lower case, and whether accents go: with the case, unless
    the file says otherwise.
    """
    if normalizer.get("type") != "BertNormalizer":
        raise UnsupportedModel(
            "llama.cpp normalizes text as BERT does and does not support the normalizer "
            f"{normalizer}."
        )
    for option in ("clean_text", "handle_chinese_chars"):
        if not normalizer.get(option, True):
            raise UnsupportedModel(
                f"The tokenizer sets {option} to false; llama.cpp always does it."
            )
    lowercase = bool(normalizer.get("lowercase", True))
    strips_accents = normalizer.get("strip_accents")
    return lowercase, lowercase if strips_accents is None else bool(strips_accents)


def _special_text(tokenizer_config: dict[str, Any], role: str) -> str:
    entry = tokenizer_config.get(f"{role}_token", f"[{role.upper()}]")
    return str(entry["content"] if isinstance(entry, dict) and "content" in entry else entry)


def _added(token_id: int, text: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": text, "special": True, **flags}
