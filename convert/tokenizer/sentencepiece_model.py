"""Reads a SentencePiece `tokenizer.model`. Knows no GGUF.

The file is one protocol-buffers message (https://github.com/google/sentencepiece,
src/sentencepiece_model.proto; wire format:
https://protobuf.dev/programming-guides/encoding). A dozen of its fields are wanted, so
it is read here rather than through a native package.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gguf import TokenType

from convert.errors import DamagedCheckpoint, MissingFile

_MODEL_PIECES, _MODEL_TRAINER, _MODEL_NORMALIZER = 1, 2, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_KIND = 1, 2, 3
_TRAINER_ALGORITHM, _TRAINER_SPACE_AS_SUFFIX = 3, 24
_NORMALIZER_CHARSMAP, _NORMALIZER_ADD_DUMMY_PREFIX, _NORMALIZER_REMOVE_EXTRA_SPACES = 2, 3, 4


class Algorithm(enum.IntEnum):
    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    kind: TokenType


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    pieces: tuple[Piece, ...]
    algorithm: Algorithm
    add_dummy_prefix: bool
    remove_extra_spaces: bool
    charsmap: bytes  # by which characters are rewritten (NFKC, ...); empty without
    space_as_suffix: bool  # a word's space stands behind it


_Value = int | float | bytes


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Raises `DamagedCheckpoint` if `path` is no SentencePiece model, `MissingFile` if
    it cannot be read.
    """
    try:
        return _parse_model(path.read_bytes())
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, LookupError, struct.error) as error:
        raise DamagedCheckpoint(f"{path} is not a SentencePiece model: {error}") from error


def _parse_model(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, _Value] = {}
    normalizer: dict[int, _Value] = {}
    for number, value in _fields(data):
        if number == _MODEL_PIECES:
            pieces.append(_parse_piece(_as_bytes(value)))
        elif number == _MODEL_TRAINER:
            trainer = dict(_fields(_as_bytes(value)))
        elif number == _MODEL_NORMALIZER:
            normalizer = dict(_fields(_as_bytes(value)))
    if not pieces:
        raise ValueError("it contains no pieces")
    return SentencePieceModel(
        pieces=tuple(pieces),
        algorithm=Algorithm(int(trainer.get(_TRAINER_ALGORITHM, Algorithm.UNIGRAM))),
        add_dummy_prefix=bool(normalizer.get(_NORMALIZER_ADD_DUMMY_PREFIX, True)),
        remove_extra_spaces=bool(normalizer.get(_NORMALIZER_REMOVE_EXTRA_SPACES, True)),
        charsmap=_as_bytes(normalizer.get(_NORMALIZER_CHARSMAP, b"")),
        space_as_suffix=bool(trainer.get(_TRAINER_SPACE_AS_SUFFIX, False)),
    )


def _parse_piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    return Piece(
        text=_as_bytes(fields[_PIECE_TEXT]).decode("utf-8"),
        score=float(fields.get(_PIECE_SCORE, 0.0)),
        kind=TokenType(int(fields.get(_PIECE_KIND, TokenType.NORMAL))),
    )


def _as_bytes(value: _Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number was found where a message was expected")  # noqa: TRY004 - it is the file that is wrong
    return value


def _fields(data: bytes) -> Iterator[tuple[int, _Value]]:
    """The (field number, value) pairs of one message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        value: _Value
        match key & 7:
            case 0:
                value, position = _varint(data, position)
            case 1:
                value, position = struct.unpack_from("<d", data, position)[0], position + 8
            case 2:
                length, position = _varint(data, position)
                if position + length > len(data):
                    raise ValueError("it is truncated")
                value, position = data[position : position + length], position + length
            case 5:
                value, position = struct.unpack_from("<f", data, position)[0], position + 4
            case other:
                raise ValueError(f"unknown wire type {other}")
        yield key >> 3, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a number is too long")
