"""A tokenizer's tokens in id order, from tokenizer.json or tokenizer.model. Knows no special roles and no templates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.config import read_optional_json
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.pretokenizer import find_pretokenizer
from convert.sentencepiece_model import Algorithm, read_sentencepiece

SPACE_MARK = "▁"
NO_MERGE_SCORE = -1e9  # a token that no merge makes: llama.cpp must prefer every real merge


@dataclass(frozen=True)
class Token:
    text: str
    type: TokenType
    score: float = 0.0


@dataclass(frozen=True)
class TokenTable:
    """`model` and `pre` in llama.cpp's words; `tokens` by id, where ids may have holes.

    `merges` is None for SentencePiece, whose order of merging lies in the scores. `add_space_prefix` is None where the
    question does not arise.
    """

    model: str
    pre: str
    tokens: dict[int, Token]
    merges: tuple[str, ...] | None = None
    add_space_prefix: bool | None = None


@dataclass(frozen=True)
class AddedToken:
    id: int
    text: str
    special: bool


def load_token_table(directory: Path, tokenizer: dict[str, Any], added: list[AddedToken]) -> TokenTable:
    """`tokenizer` is tokenizer.json's content, empty where there is none.

    Raises `MissingFile`, or `UnsupportedModel` with the reason for a tokenizer that llama.cpp would not follow.
    """
    sentencepiece_path = directory / "tokenizer.model"
    if _is_byte_level(tokenizer.get("pre_tokenizer")):
        table = _byte_level_bpe(tokenizer)
    elif sentencepiece_path.exists():
        table = _sentencepiece(sentencepiece_path, tokenizer)
    elif tokenizer:
        table = _sentencepiece_as_bpe(tokenizer)
    else:
        raise MissingFile(f"{directory} holds neither tokenizer.json nor tokenizer.model.")
    tokens = dict(table.tokens)
    for token in added:
        tokens[token.id] = _with_added(tokens.get(token.id), token)
    return replace(table, tokens=tokens)


def read_added_tokens(directory: Path, tokenizer: dict[str, Any], tokenizer_config: dict[str, Any]) -> list[AddedToken]:
    """Added tokens of all the places that may hold them, by id; tokenizer.json, which runs them, has the last word."""
    found: dict[int, AddedToken] = {}
    try:
        for text, token_id in read_optional_json(directory / "added_tokens.json").items():
            found[int(token_id)] = AddedToken(int(token_id), text, special=False)
        for key, entry in (tokenizer_config.get("added_tokens_decoder") or {}).items():
            found[int(key)] = AddedToken(int(key), entry["content"], entry.get("special", False))
        for entry in tokenizer.get("added_tokens") or []:
            found[int(entry["id"])] = AddedToken(int(entry["id"]), entry["content"], entry.get("special", False))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedCheckpoint(f"{directory}: the list of added tokens is malformed: {error!r}") from error
    return [found[token_id] for token_id in sorted(found)]


def _with_added(existing: Token | None, added: AddedToken) -> Token:
    if existing is not None and existing.type is TokenType.UNKNOWN:
        return existing
    kind = TokenType.CONTROL if added.special else TokenType.USER_DEFINED
    score = existing.score if existing is not None else NO_MERGE_SCORE
    return Token(added.text, kind, score)


# --- tokenizer.json, byte level --------------------------------------------------------------------------------------


def _is_byte_level(section: Any) -> bool:
    if isinstance(section, dict):
        return section.get("type") == "ByteLevel" or any(map(_is_byte_level, section.get("pretokenizers", [])))
    return False


def _byte_level_bpe(tokenizer: dict[str, Any]) -> TokenTable:
    vocab, merges, model = _bpe_model(tokenizer)
    # NFC is let pass: llama.cpp does not normalize, and text is composed already except where someone took it apart.
    if (tokenizer.get("normalizer") or {}).get("type", "NFC") != "NFC":
        raise UnsupportedModel(f"The tokenizer normalizes text ({tokenizer['normalizer']}), which llama.cpp does not.")
    if model.get("byte_fallback"):
        raise UnsupportedModel("The tokenizer is byte-level and falls back to byte tokens as well.")
    pre = find_pretokenizer(tokenizer["pre_tokenizer"], bool(model.get("ignore_merges", False)))
    tokens = {token_id: Token(text, TokenType.NORMAL) for text, token_id in vocab.items()}
    return TokenTable("gpt2", pre, tokens, tuple(" ".join(pair) for pair in merges))


def _bpe_model(tokenizer: dict[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, Any]]:
    """Vocabulary, merges and the rest of a BPE tokenizer.json; both spellings of merges are read."""
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE":
        raise UnsupportedModel(f"tokenizer.json is of type {model.get('type')}; only BPE and SentencePiece are known.")
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            raise UnsupportedModel(f"The tokenizer uses {option}, which llama.cpp does not know.")
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise DamagedCheckpoint("tokenizer.json has no vocabulary or no merges.")
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) and part and " " not in part for part in pair):
            raise DamagedCheckpoint(f"tokenizer.json has a malformed merge: {pair}.")
    return vocab, [(left, right) for left, right in pairs], model


# --- SentencePiece ---------------------------------------------------------------------------------------------------


def _sentencepiece(path: Path, tokenizer: dict[str, Any]) -> TokenTable:
    model = read_sentencepiece(path)
    if model.algorithm is not Algorithm.BPE:
        raise UnsupportedModel(
            f"{path} is a SentencePiece {model.algorithm.name.lower()} model; llama.cpp merges as BPE."
        )
    tokens = {i: Token(piece.text, piece.kind, piece.score) for i, piece in enumerate(model.pieces)}
    adds_space = _adds_space(tokenizer) if tokenizer else model.add_dummy_prefix
    return TokenTable("llama", "default", tokens, add_space_prefix=adds_space)


def _sentencepiece_as_bpe(tokenizer: dict[str, Any]) -> TokenTable:
    """A SentencePiece tokenizer that was rewritten as tokenizer.json, without its tokenizer.model.

    llama.cpp merges the pair whose result scores highest, tokenizer.json the pair of lowest rank: scores that fall with
    the rank of the merge say the same, provided that all merges with one result stand together.
    """
    vocab, merges, model = _bpe_model(tokenizer)
    if not model.get("byte_fallback"):
        raise UnsupportedModel("The tokenizer is a BPE without byte level and without byte fallback.")
    scores: dict[str, float] = {}
    previous = ""
    for rank, (left, right) in enumerate(merges):
        merged = left + right
        if merged in scores and merged != previous:
            raise UnsupportedModel(f"The tokenizer ranks the merges into {merged!r} apart; llama.cpp cannot.")
        scores.setdefault(merged, -float(rank))
        previous = merged
    tokens = {
        token_id: Token(text, _fallback_type(text, model), scores.get(text, NO_MERGE_SCORE))
        for text, token_id in vocab.items()
    }
    return TokenTable("llama", "default", tokens, add_space_prefix=_adds_space(tokenizer))


def _fallback_type(text: str, model: dict[str, Any]) -> TokenType:
    if text == model.get("unk_token"):
        return TokenType.UNKNOWN
    is_byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
    return TokenType.BYTE if is_byte else TokenType.NORMAL


def _adds_space(tokenizer: dict[str, Any]) -> bool:
    """Whether a space goes before the text, in either of the two ways of writing SentencePiece as tokenizer.json."""
    normalizer, pre = tokenizer.get("normalizer") or {}, tokenizer.get("pre_tokenizer") or {}
    replace_spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
    prepend = {"type": "Prepend", "prepend": SPACE_MARK}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    if not pre and steps == [prepend, replace_spaces]:
        return True
    if not pre and steps == [replace_spaces]:
        return False
    if not steps and pre.get("type") == "Metaspace" and not pre.get("split", True):
        return bool(pre.get("prepend_scheme") != "never")
    raise UnsupportedModel(f"llama.cpp cannot follow the tokenizer's normalizer {normalizer} and pre-tokenizer {pre}.")
