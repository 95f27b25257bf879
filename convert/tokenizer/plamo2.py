"""PLaMo 2's vocabulary (`tokenizer.jsonl`): of all ways to cut a text into tokens, the one whose
scores add up to most; what no token covers, as bytes.

Knows no weights.

A line is a list of a token's text, its score and its kind. Source: tokenization_plamo.py of
pfnet/plamo-2-1b, and `llm_tokenizer_plamo2` in llama.cpp's src/llama-vocab.cpp.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.errors import DamagedCheckpoint, MissingFile
from convert.gguf.header import boolean
from convert.tokenizer.deviation import Deviation
from convert.tokenizer.own_encoders import BEST_SCORES
from convert.tokenizer.token_table import Token, TokenTable

_FILE = "tokenizer.jsonl"
_KINDS = {
    "NORMAL": TokenType.NORMAL,
    "UNKNOWN": TokenType.UNKNOWN,
    "CONTROL": TokenType.CONTROL,
    "BYTE": TokenType.BYTE,
}
_SPECIAL = "<|plamo:"  # which the kind does not always say
_DECIMALS = 4  # of scores: both sides count in ten-thousandths


def plamo2_file(directory: Path) -> Path | None:
    path = directory / _FILE
    return path if path.exists() else None


def plamo2_table(path: Path) -> TokenTable:
    """Raises `MissingFile` if `path` cannot be read, `DamagedCheckpoint` for a malformed line,
    and where one of the 256 bytes has no token.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DamagedCheckpoint(f"{path} is not UTF-8: {error}") from error
    tokens = [_read_line(path, number, line) for number, line in enumerate(lines, start=1)]
    texts = {token.text for token in tokens}
    missing = [byte for byte in range(256) if f"<0x{byte:02X}>" not in texts]
    if missing:
        raise DamagedCheckpoint(
            f"{path} has no token for the byte 0x{missing[0]:02X}: not every text could be written."
        )
    flags: dict[str, Any] = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return TokenTable(
        model="plamo2",
        pre="default",
        tokens=dict(enumerate(tokens)),
        reference={
            "version": "1.0",
            "added_tokens": [
                {"id": i, "content": token.text, "special": True, **flags}
                for i, token in enumerate(tokens)
                if token.type in (TokenType.CONTROL, TokenType.UNKNOWN)
            ],
            "normalizer": None,
            "post_processor": None,
            "model": {
                "type": BEST_SCORES,
                "vocab": [[t.text, t.score, t.type is TokenType.BYTE] for t in tokens],
            },
        },
        fields=(boolean("tokenizer.ggml.add_space_prefix", False),),
        deviations=frozenset({Deviation.LEADING_BOM}),
        defaults={
            "bos_token": "<|plamo:bos|>",
            "eos_token": "<|plamo:eos|>",
            "unk_token": "<|plamo:unk|>",
            "pad_token": "<|plamo:pad|>",
        },
    )


def _read_line(path: Path, number: int, line: str) -> Token:
    try:
        content = json.loads(line)
    except ValueError:
        content = None
    match content:
        case [str(text), int() | float() as score, *rest] if text:
            name = rest[0] if rest else "NORMAL"
            kind = _KINDS.get(name, TokenType.NORMAL)
            if kind is TokenType.NORMAL and text.startswith(_SPECIAL) and text.endswith("|>"):
                kind = TokenType.CONTROL
            return Token(text, kind, round(float(score), _DECIMALS))
        case _:
            raise DamagedCheckpoint(
                f"{path} is malformed in line {number}: a list of a token's text, its score and "
                "its kind belongs there."
            )
