"""Unigram tokenizers (XLM-RoBERTa: BGE-M3, multilingual E5) from tokenizer.json, as
llama.cpp keeps them under the name `t5`: of all ways to cut a text into pieces, the one
whose scores add up to most.

Knows no weights.

Source: `llm_tokenizer_ugm` in llama.cpp's src/llama-vocab.cpp. It rewrites characters by
the model's own table, drops the spaces at both ends, takes runs of them as one, and puts
one in front of each text.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

from gguf import TokenType

from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, boolean, u8_array
from convert.tokenizer.token_table import Token, TokenTable

_SPACE_MARK = "▁"
_ROW_OF_SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
_ENDS = {"type": "Strip", "strip_left": False, "strip_right": True}


def is_unigram(tokenizer: dict[str, Any]) -> bool:
    return (tokenizer.get("model") or {}).get("type") == "Unigram"


def unigram_table(tokenizer: dict[str, Any]) -> TokenTable:
    """Raises `UnsupportedModel` with the reason for a tokenizer that llama.cpp would not
    follow, `DamagedCheckpoint` for one that is malformed.
    """
    model = tokenizer["model"]
    if model.get("byte_fallback"):
        raise UnsupportedModel(
            "The Unigram tokenizer writes unknown characters as bytes (byte_fallback), which "
            "llama.cpp does not support for this kind."
        )
    _check_splitting(tokenizer.get("pre_tokenizer") or {})
    tokens = _tokens(model)
    return TokenTable(
        model="t5",
        pre="default",
        tokens=tokens,
        reference=tokenizer,
        fields=(
            boolean("tokenizer.ggml.add_space_prefix", True),
            boolean("tokenizer.ggml.remove_extra_whitespaces", True),
            boolean("tokenizer.ggml.add_sep_token", _separates(tokenizer.get("post_processor"))),
            *_charsmap_fields(tokenizer.get("normalizer") or {}),
        ),
        # where no file names it, llama.cpp would take the token 2
        defaults={"unk_token": tokens[model["unk_id"]].text},
    )


def _tokens(model: dict[str, Any]) -> dict[int, Token]:
    vocab, unknown = model.get("vocab"), model.get("unk_id")
    if not isinstance(vocab, list) or not vocab:
        raise DamagedCheckpoint("tokenizer.json has no vocabulary.")
    if type(unknown) is not int or not 0 <= unknown < len(vocab):
        raise UnsupportedModel(
            f"The Unigram tokenizer names no unknown token (unk_id is {unknown!r}), which "
            "llama.cpp requires."
        )
    tokens = {}
    for token_id, entry in enumerate(vocab):
        match entry:
            case [str(text), int() | float() as score] if math.isfinite(score):
                kind = TokenType.UNKNOWN if token_id == unknown else TokenType.NORMAL
                tokens[token_id] = Token(text, kind, float(score))
            case _:
                raise DamagedCheckpoint(f"tokenizer.json has a malformed token: {entry!r}.")
    return tokens


def _check_splitting(pre_tokenizer: dict[str, Any]) -> None:
    """Words with a mark in front of each."""
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    marks = steps[-1] if steps else {}
    scheme = marks.get(
        "prepend_scheme", "always" if marks.get("add_prefix_space", True) else "never"
    )
    others = [step for step in steps[:-1] if step != {"type": "WhitespaceSplit"}]
    if (
        marks.get("type") != "Metaspace"
        or marks.get("replacement") != _SPACE_MARK
        or scheme != "always"
        or others
    ):
        raise UnsupportedModel(
            f"llama.cpp puts a space in front of every text of a Unigram tokenizer, and does not "
            f"support the pre-tokenizer {pre_tokenizer}."
        )


def _separates(processor: Any) -> bool:
    """Whether two tokens stand between two texts, an end and a separator."""
    parts = processor.get("pair") if isinstance(processor, dict) else None
    if not isinstance(parts, list):
        return False
    kinds = ["Sequence" if "Sequence" in part else "" for part in parts]
    texts = [at for at, kind in enumerate(kinds) if kind]
    return len(texts) == 2 and texts[1] - texts[0] == 3


def _charsmap_fields(normalizer: dict[str, Any]) -> tuple[Field, ...]:
    """The table by which characters are rewritten, if there is one."""
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    tables = [step for step in steps if step.get("type") == "Precompiled"]
    others = [step for step in steps if step not in (*tables, _ROW_OF_SPACES, _ENDS)]
    others = [step for step in others if not _is_row_of_marks(step)]
    if others or len(tables) > 1:
        raise UnsupportedModel(
            "llama.cpp rewrites the text of a Unigram tokenizer by one table, and does not support "
            f"the normalizer {(others or tables)[0].get('type')}."
        )
    if not tables:
        return ()
    try:
        table = base64.b64decode(tables[0]["precompiled_charsmap"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise DamagedCheckpoint(
            f"tokenizer.json has a malformed precompiled_charsmap: {error}"
        ) from error
    return (u8_array("tokenizer.ggml.precompiled_charsmap", table),) if table else ()


def _is_row_of_marks(step: dict[str, Any]) -> bool:
    """The same as runs of spaces, as they stand once words were marked."""
    return step == {**_ROW_OF_SPACES, "content": _SPACE_MARK}
