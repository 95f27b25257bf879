"""Reads a tiktoken file, and finds the merges that its ranks stand for.

Knows no classes of tokenizers and no special tokens.

A line of the file is a piece of bytes in base64, a space, and its rank, which is its id
(`tiktoken.load.load_tiktoken_bpe`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convert.errors import DamagedCheckpoint, MissingFile

_FIRST_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")

Ranks = Mapping[bytes, int]
Merge = tuple[bytes, bytes]


def is_ranks_file(path: Path) -> bool:
    """By its first line; `tokenizer.model` may be a SentencePiece model as well."""
    try:
        with path.open("rb") as file:
            return _FIRST_LINE.fullmatch(file.readline(4096)) is not None
    except OSError:
        return False


def read_ranks(path: Path) -> dict[bytes, int]:
    """The rank of each piece.

    Raises `MissingFile` if `path` cannot be read, `DamagedCheckpoint` for a malformed line,
    a piece or rank that is there twice, and where one of the 256 bytes has no rank.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        piece, rank = _read_line(path, number, line)
        if piece in ranks:
            raise DamagedCheckpoint(f"{path} has the piece {piece!r} twice.")
        ranks[piece] = rank
    require_usable(ranks, path)
    return ranks


def require_usable(ranks: Ranks, path: Path) -> None:
    """Raises `DamagedCheckpoint` where a byte has no rank, or two pieces have the same."""
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise DamagedCheckpoint(
            f"{path} has no rank for the byte 0x{missing[0]:02X}: not every text could be written."
        )
    if len(set(ranks.values())) != len(ranks):
        raise DamagedCheckpoint(f"{path} gives two pieces the same rank.")


def _read_line(path: Path, number: int, line: bytes) -> tuple[bytes, int]:
    try:
        encoded, rank = line.split()
        piece = base64.b64decode(encoded, validate=True)
        if not piece or not rank.isdigit():
            raise ValueError("no piece or no rank")
        return piece, int(rank)
    except (ValueError, binascii.Error) as error:
        raise DamagedCheckpoint(
            f"{path} is malformed in line {number}: a piece in base64 and its rank belong there."
        ) from error


def split_by_rank(ranks: Ranks, piece: bytes, below: int | None = None) -> list[bytes]:
    """`piece` as tiktoken cuts it: of all neighbours that together have a rank, those of the
    lowest are joined, the leftmost first, until none are left.

    With `below`, only ranks under it count. Source: `_byte_pair_merge` in tiktoken's
    src/lib.rs.
    """
    parts = [piece[at : at + 1] for at in range(len(piece))]
    while len(parts) > 1:
        lowest, where = below, -1
        for at in range(len(parts) - 1):
            rank = ranks.get(parts[at] + parts[at + 1])
            if rank is not None and (lowest is None or rank < lowest):
                lowest, where = rank, at
        if where < 0:
            break
        parts[where : where + 2] = [parts[where] + parts[where + 1]]
    return parts


@dataclass(frozen=True)
class Merges:
    """In their order, the strongest first."""

    pairs: tuple[Merge, ...]
    # pieces that tiktoken finds as whole words only: joining never makes them
    whole_words: tuple[bytes, ...]


def find_merges(ranks: Ranks) -> Merges:
    """The merges that do what the ranks do.

    In ranks that were trained, each piece is made of two others of lower ranks, and these two
    are the only ones that ever meet: whatever is joined to another part of the piece first,
    is so because of a lower rank, and would have been inside the piece alone as well. Where
    some piece is not made so, such as one that was put in by hand, every pair of pieces that
    makes another is listed, for which of them meet depends on the text.
    """
    ordered = sorted((piece for piece in ranks if len(piece) > 1), key=ranks.__getitem__)
    made = [(piece, split_by_rank(ranks, piece, ranks[piece])) for piece in ordered]
    if all(len(parts) == 2 for _, parts in made):
        return Merges(tuple((parts[0], parts[1]) for _, parts in made), ())
    pairs = tuple(pair for piece in ordered for pair in _halves(ranks, piece))
    odd = (piece for piece, parts in made if len(parts) != 2)
    return Merges(pairs, tuple(piece for piece in odd if split_by_rank(ranks, piece) != [piece]))


def _halves(ranks: Ranks, piece: bytes) -> list[Merge]:
    """Every pair of pieces that together are `piece`."""
    cuts = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
    return [(left, right) for left, right in cuts if left in ranks and right in ranks]
