"""The token table of a SentencePiece Unigram model (`sentencepiece.bpe.model`, `spiece.model`)
that has no tokenizer.json beside it.

Knows no file format. What the class that reads the model puts around it (other ids, tokens of
its own) is in `_LAYOUTS`; classes that are not there take it as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, boolean, u8_array
from convert.tokenizer.deviation import Deviation
from convert.tokenizer.sentencepiece_model import Piece, SentencePieceModel
from convert.tokenizer.token_table import NO_MERGE_SCORE, Token, TokenTable

_SPACE_MARK = "▁"
_NUM_SENTINELS = 100  # T5's `extra_ids`, where tokenizer_config.json gives no number


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a class makes of the model's pieces."""

    # the pieces in the order of their ids
    arrange: Callable[[Sequence[Piece]], list[Piece]] = list
    around: tuple[Sequence[str], Sequence[str]] = ((), ())  # before and after every text
    defaults: Mapping[str, Any] = field(default_factory=dict)


def _fairseq(pieces: Sequence[Piece]) -> list[Piece]:
    """XLM-RoBERTa has its own four in front in place of the model's three, and one behind.

    Source: `XLMRobertaTokenizer` of transformers, `fairseq_tokens_to_ids`.
    """
    if [piece.text for piece in pieces[:3]] != ["<unk>", "<s>", "</s>"]:
        raise DamagedCheckpoint(
            "The SentencePiece model of an XLM-RoBERTa must begin with <unk>, <s> and </s>."
        )
    control, unknown = TokenType.CONTROL, TokenType.UNKNOWN
    first = [Piece("<s>", 0.0, control), Piece("<pad>", 0.0, control)]
    first += [Piece("</s>", 0.0, control), Piece("<unk>", 0.0, unknown)]
    return [*first, *pieces[3:], Piece("<mask>", 0.0, control)]


def _with_sentinels(count: int) -> Callable[[Sequence[Piece]], list[Piece]]:
    """T5's, the last one first."""
    names = [f"<extra_id_{number}>" for number in reversed(range(count))]
    return lambda pieces: [*pieces, *(Piece(name, 0.0, TokenType.CONTROL) for name in names)]


_XLM_ROBERTA = Layout(
    arrange=_fairseq,
    around=(("<s>",), ("</s>",)),
    defaults={
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
)


def layout_of(tokenizer_config: Mapping[str, Any], config: Config) -> Layout:
    """Of the class that tokenizer_config.json names, else of config.json's `model_type`."""
    name = str(tokenizer_config.get("tokenizer_class") or "").removesuffix("Fast")
    model_type = config.values.get("model_type")
    if name == "XLMRobertaTokenizer" or (not name and model_type == "xlm-roberta"):
        return _XLM_ROBERTA
    if name == "T5Tokenizer" or (not name and model_type in ("t5", "mt5", "umt5")):
        count = tokenizer_config.get("extra_ids", _NUM_SENTINELS)
        return Layout(
            arrange=_with_sentinels(count if type(count) is int else _NUM_SENTINELS),
            around=((), ("</s>",)),
            defaults={"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        )
    return Layout()


def unigram_model_table(path: Path, model: SentencePieceModel, layout: Layout) -> TokenTable:
    """Raises `UnsupportedModel` with the reason for a model that llama.cpp would not follow.

    `llm_tokenizer_ugm` in llama.cpp's src/llama-vocab.cpp knows the same flags. With spaces
    taken as one it puts one in front in any case.
    """
    pieces = layout.arrange(model.pieces)
    _check(path, model, pieces)
    prefix, merges = model.add_dummy_prefix, model.remove_extra_spaces
    user_defined = any(piece.kind is TokenType.USER_DEFINED for piece in pieces)
    found = {Deviation.SPACE_AFTER_SPECIAL} if prefix and user_defined else set()
    if prefix and not merges:
        found.add(Deviation.ONLY_SPACES)
    unknown = next(piece.text for piece in pieces if piece.kind is TokenType.UNKNOWN)
    fields: list[Field] = [
        boolean("tokenizer.ggml.add_space_prefix", prefix),
        boolean("tokenizer.ggml.remove_extra_whitespaces", merges),
        boolean("tokenizer.ggml.add_sep_token", layout is _XLM_ROBERTA),
    ]
    if model.charsmap:
        fields.append(u8_array("tokenizer.ggml.precompiled_charsmap", model.charsmap))
    return TokenTable(
        model="t5",
        pre="default",
        tokens={at: _token(piece) for at, piece in enumerate(pieces)},
        reference=_as_tokenizer_json(model, pieces, layout),
        fields=tuple(fields),
        deviations=frozenset(found),
        defaults={"unk_token": unknown, **layout.defaults},
    )


def _check(path: Path, model: SentencePieceModel, pieces: Sequence[Piece]) -> None:
    if any(piece.kind is TokenType.BYTE for piece in pieces):
        reason = "writes unknown characters as bytes (byte_fallback)"
    elif all(piece.kind is not TokenType.UNKNOWN for piece in pieces):
        reason = "has no token for what is unknown"
    elif model.space_as_suffix:
        reason = "puts a word's space behind it (treat_whitespace_as_suffix)"
    elif model.remove_extra_spaces and not model.add_dummy_prefix:
        reason = "takes runs of spaces as one, but puts none before a text"
    else:
        return
    raise UnsupportedModel(
        f"{path} is a SentencePiece unigram model that {reason}, which llama.cpp does not support "
        "for this kind."
    )


def _token(piece: Piece) -> Token:
    # llama.cpp would find unused ones, which SentencePiece never does
    is_unused = piece.kind is TokenType.UNUSED
    return Token(piece.text, piece.kind, NO_MERGE_SCORE if is_unused else piece.score)


def _as_tokenizer_json(
    model: SentencePieceModel, pieces: Sequence[Piece], layout: Layout
) -> dict[str, Any]:
    """A tokenizer.json that cuts texts as the model does (`Normalizer::Normalize` in
    SentencePiece's src/normalizer.cc).
    """
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        encoded = base64.b64encode(model.charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if model.remove_extra_spaces:
        steps += [_replace(r"\A +| +\z", ""), _replace(" {2,}", " ")]
    if model.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": _SPACE_MARK})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": _SPACE_MARK})
    apart = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    tokens = [_token(piece) for piece in pieces]
    return {
        "version": "1.0",
        "added_tokens": [
            _added(at, piece.text, piece.kind is not TokenType.USER_DEFINED)
            for at, piece in enumerate(pieces)
            if piece.kind in apart
        ],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": _post_processor(pieces, layout.around),
        "model": {
            "type": "Unigram",
            "unk_id": next(i for i, token in enumerate(tokens) if token.type is TokenType.UNKNOWN),
            "vocab": [[token.text, token.score] for token in tokens],
            "byte_fallback": False,
        },
    }


def _replace(expression: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": expression}, "content": content}


def _post_processor(
    pieces: Sequence[Piece], around: tuple[Sequence[str], Sequence[str]]
) -> dict[str, Any] | None:
    if around == ((), ()):
        return None
    ids = {piece.text: at for at, piece in enumerate(pieces)}
    before, after = ([{"SpecialToken": {"id": text, "type_id": 0}} for text in s] for s in around)
    sequence = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    return {
        "type": "TemplateProcessing",
        "single": [*before, sequence[0], *after],
        "pair": [*before, sequence[0], *after, sequence[1], *after],
        "special_tokens": {
            text: {"id": text, "ids": [ids[text]], "tokens": [text]}
            for text in {*around[0], *around[1]}
        },
    }


def _added(token_id: int, text: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": text, "special": special, **flags}
