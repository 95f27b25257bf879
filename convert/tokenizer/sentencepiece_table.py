"""The token table of a SentencePiece model that merges, and its like as a tokenizer.json.

Knows no file format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.config import Config
from convert.errors import UnsupportedModel
from convert.gguf.header import boolean
from convert.tokenizer.bpe_tables import SPACE_MARK, space_prefix
from convert.tokenizer.deviation import Deviation
from convert.tokenizer.sentencepiece_model import Algorithm, SentencePieceModel, read_sentencepiece
from convert.tokenizer.sentencepiece_unigram import layout_of, unigram_model_table
from convert.tokenizer.token_table import Token, TokenTable

# as Llama's, XLM-RoBERTa's and T5's checkpoints call it
_FILE_NAMES = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model")


def sentencepiece_file(directory: Path) -> Path | None:
    """The SentencePiece model, if there is one."""
    return next((path for name in _FILE_NAMES if (path := directory / name).exists()), None)


def tokenizer_model_table(
    path: Path,
    tokenizer: dict[str, Any],
    tokenizer_config: Mapping[str, Any],
    config: Config,
) -> TokenTable:
    """`tokenizer` is the tokenizer.json beside it, which has the last word on spaces;
    empty where there is none.

    Raises `UnsupportedModel` with the reason for a model that llama.cpp would not
    follow.
    """
    model = read_sentencepiece(path)
    if model.algorithm is Algorithm.UNIGRAM and not tokenizer:
        return unigram_model_table(path, model, layout_of(tokenizer_config, config))
    if model.algorithm is not Algorithm.BPE:
        raise UnsupportedModel(
            f"{path} is a SentencePiece {model.algorithm.name.lower()} model, but only BPE and "
            "unigram models are supported, the latter without a tokenizer.json of another kind."
        )
    deviations: frozenset[Deviation] = frozenset()
    adds_space = model.add_dummy_prefix
    if tokenizer:
        adds_space, deviations = space_prefix(tokenizer)
    elif model.remove_extra_spaces or model.charsmap:
        deviations = frozenset({Deviation.NO_REWRITING})
    return TokenTable(
        model="llama",
        pre="default",
        tokens={
            i: Token(piece.text, piece.kind, piece.score) for i, piece in enumerate(model.pieces)
        },
        reference=tokenizer or as_tokenizer_json(model),
        fields=(
            boolean("tokenizer.ggml.add_space_prefix", adds_space),
            boolean("tokenizer.ggml.remove_extra_whitespaces", model.remove_extra_spaces),
        ),
        deviations=deviations,
    )


def as_tokenizer_json(model: SentencePieceModel) -> dict[str, Any]:
    """A tokenizer.json that merges as `model` does: of two pairs, the one whose result
    scores higher goes first.

    Every piece that consists of two others can be merged from them, so each such pair
    becomes a merge.
    """
    vocab = {piece.text: i for i, piece in enumerate(model.pieces)}
    merges = [
        (
            -piece.score,
            vocab[piece.text[:cut]],
            vocab[piece.text[cut:]],
            (piece.text[:cut], piece.text[cut:]),
        )
        for piece in model.pieces
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in vocab and piece.text[cut:] in vocab
    ]
    marks: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
    ]
    if model.add_dummy_prefix:
        marks.insert(0, {"type": "Prepend", "prepend": SPACE_MARK})
    return {
        "version": "1.0",
        "added_tokens": [
            _added(i, piece.text, piece.kind is not TokenType.USER_DEFINED)
            for i, piece in enumerate(model.pieces)
            if piece.kind in (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
        ],
        "normalizer": {"type": "Sequence", "normalizers": marks},
        "model": {
            "type": "BPE",
            "unk_token": next(
                (piece.text for piece in model.pieces if piece.kind is TokenType.UNKNOWN), None
            ),
            "fuse_unk": True,
            "byte_fallback": any(piece.kind is TokenType.BYTE for piece in model.pieces),
            "vocab": vocab,
            "merges": [list(pair) for *_, pair in sorted(merges)],
        },
    }


def _added(token_id: int, text: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": text, "special": special, **flags}
