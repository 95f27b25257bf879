"""RWKV's World vocabulary (`rwkv_vocab_v20230424.txt`): of all tokens that a text begins with,
the longest.

Knows no weights.

A line is an id, the token as a Python literal of text or bytes, and the number of its bytes;
ids begin at 1, and 0 ends a text. Source: RWKV-LM's rwkv_vocab_v20230424.txt, and
`llm_tokenizer_rwkv` in llama.cpp's src/llama-vocab.cpp, which keeps bytes escaped.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.errors import DamagedCheckpoint, MissingFile
from convert.tokenizer.own_encoders import LONGEST_MATCH
from convert.tokenizer.token_table import Token, TokenTable

_PATTERN = "rwkv_vocab_*.txt"
_END = "<s>"
_NOTE_ON_TURNS = (
    "RWKV's World models end a turn with a blank line, for which there is no token of its own: "
    "pass it as `stop` in requests where answers do not end."
)


def rwkv_file(directory: Path) -> Path | None:
    return next(iter(sorted(directory.glob(_PATTERN))), None)


def rwkv_table(path: Path) -> TokenTable:
    """Raises `MissingFile` if `path` cannot be read, `DamagedCheckpoint` for a malformed line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DamagedCheckpoint(f"{path} is not UTF-8: {error}") from error
    pieces = dict(_read_line(path, number, line) for number, line in enumerate(lines, start=1))
    if len(pieces) != len(lines) or 0 in pieces:
        raise DamagedCheckpoint(f"{path} gives an id twice, or to a token of its own the id 0.")
    missing = {bytes([byte]) for byte in range(256)} - set(pieces.values())
    if missing:
        raise DamagedCheckpoint(
            f"{path} has no token for the byte 0x{min(missing).hex().upper()}: not every text could"
            " be written."
        )
    tokens = {0: Token(_END, TokenType.CONTROL)}
    tokens |= {i: Token(escaped(piece), TokenType.NORMAL) for i, piece in pieces.items()}
    flags: dict[str, Any] = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return TokenTable(
        model="rwkv",
        pre="default",
        tokens=tokens,
        reference={
            "version": "1.0",
            "added_tokens": [{"id": 0, "content": _END, "special": True, **flags}],
            "normalizer": None,
            "post_processor": None,
            "model": {
                "type": LONGEST_MATCH,
                "vocab": {piece.hex(): i for i, piece in pieces.items()},
            },
        },
        defaults={"bos_token": _END, "eos_token": _END, "unk_token": _END},
        notes=(_NOTE_ON_TURNS,),
    )


def escaped(piece: bytes) -> str:
    """As Python would write it between quotes, with every backslash as a number."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in piece
    )


def _read_line(path: Path, number: int, line: str) -> tuple[int, bytes]:
    try:
        token_id, rest = line.split(" ", maxsplit=1)
        literal, size = rest.rsplit(" ", maxsplit=1)
        value = ast.literal_eval(literal)
        piece = value.encode() if isinstance(value, str) else value
        if not isinstance(piece, bytes) or len(piece) != int(size):
            raise ValueError("another size")
        return int(token_id), piece
    except (ValueError, SyntaxError) as error:
        raise DamagedCheckpoint(
            f"{path} is malformed in line {number}: an id, a token in quotes and the number of its "
            "bytes belong there."
        ) from error
