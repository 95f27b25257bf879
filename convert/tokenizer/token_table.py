"""A tokenizer's tokens in id order, in llama.cpp's words.

Knows no algorithm in detail and no special roles.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.config import read_optional_json
from convert.errors import DamagedCheckpoint
from convert.gguf.header import Field
from convert.tokenizer.deviation import Deviation

_NEVER = -2000.0  # PLaMo 2's score for a token that is never found
NO_MERGE_SCORE = -1e9  # a token that no merge makes: llama.cpp must prefer every real merge


@dataclass(frozen=True)
class Token:
    text: str
    type: TokenType
    score: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """A tokenizer as llama.cpp keeps it, and the original to compare it with."""

    model: str  # llama.cpp's name of the algorithm
    pre: str  # llama.cpp's name of the pre-tokenizer
    tokens: dict[int, Token]  # by id; there may be holes
    # the tokenizer.json that this was made from, or one made from the other files
    reference: dict[str, Any]
    # None where SentencePiece's scores hold the order, and for WordPiece, which has
    # none
    merges: tuple[str, ...] | None = None
    fields: tuple[Field, ...] = ()
    deviations: frozenset[Deviation] = field(default_factory=frozenset)
    # what tokenizer_config.json leaves to the class that reads the files
    defaults: Mapping[str, Any] = field(default_factory=dict)
    takes_whole_words: bool = False  # a word that is a token is found without merges
    # special tokens that are part of the text: a parser looks for their names there
    shown: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()  # sentences for the user


@dataclass(frozen=True, kw_only=True)
class AddedToken:
    """A token that is found in the text before all others."""

    id: int
    text: str
    special: bool
    strips_right: bool = False  # takes the spaces after it along
    strips_left: bool = False  # and those before it
    single_word: bool = False  # only found where no letter or digit is beside it


def with_added(table: TokenTable, added: list[AddedToken]) -> TokenTable:
    """The table with every added token in its place, and in `reference`, which lacks
    those of other files.
    """
    tokens = dict(table.tokens)
    for token in added:
        is_shown = token.text in table.shown
        tokens[token.id] = _as_added(tokens.get(token.id), token, is_shown=is_shown)
    entries = table.reference.get("added_tokens") or []
    known = {entry["id"] for entry in entries}
    others = [_as_entry(token) for token in added if token.id not in known]
    return replace(
        table, tokens=tokens, reference={**table.reference, "added_tokens": [*entries, *others]}
    )


def never_found(table: TokenTable, ids: Collection[int]) -> set[int]:
    """Those of `ids` that no text becomes: unused ones, and what neither merges nor bytes make."""
    unused = {i for i in ids if table.tokens[i].type is TokenType.UNUSED}
    if table.merges is None or table.takes_whole_words:
        return unused
    pairs = [merge.split(" ") for merge in table.merges]
    made = {part for pair in pairs for part in (*pair, "".join(pair))}
    texts = {i: table.tokens[i].text for i in ids if table.tokens[i].type is TokenType.NORMAL}
    return unused | {i for i, text in texts.items() if len(text) > 1 and text not in made}


def without_tokens(table: TokenTable, ids: Collection[int]) -> TokenTable:
    """The table without tokens that the model has no rows for, in `reference` too: there, the
    text of added ones is then read as ordinary text, as llama.cpp reads it.
    """
    if not ids:
        return table
    entries = [
        entry for entry in table.reference.get("added_tokens") or [] if entry["id"] not in ids
    ]
    reference = {**table.reference, "added_tokens": entries}
    model = reference.get("model") or {}
    if isinstance(model.get("vocab"), dict):  # some list their added tokens there as well
        kept = {text: token_id for text, token_id in model["vocab"].items() if token_id not in ids}
        reference["model"] = {**model, "vocab": kept}
    tokens = {token_id: token for token_id, token in table.tokens.items() if token_id not in ids}
    return replace(table, tokens=tokens, reference=reference)


def read_added_tokens(
    directory: Path, tokenizer: dict[str, Any], tokenizer_config: dict[str, Any]
) -> list[AddedToken]:
    """Added tokens of all the places that may hold them, by id; tokenizer.json, which
    runs them, has the last word.
    """
    found: dict[int, AddedToken] = {}
    try:
        for text, token_id in read_optional_json(directory / "added_tokens.json").items():
            found[int(token_id)] = AddedToken(id=int(token_id), text=text, special=False)
        for key, entry in (tokenizer_config.get("added_tokens_decoder") or {}).items():
            found[int(key)] = _read_added(int(key), entry)
        for entry in tokenizer.get("added_tokens") or []:
            found[int(entry["id"])] = _read_added(int(entry["id"]), entry)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedCheckpoint(
            f"{directory}: the list of added tokens is malformed: {error!r}"
        ) from error
    return [found[token_id] for token_id in sorted(found)]


def _read_added(token_id: int, entry: dict[str, Any]) -> AddedToken:
    if not isinstance(entry["content"], str):
        raise TypeError(f"{entry['content']!r} is not a string")
    return AddedToken(
        id=token_id,
        text=entry["content"],
        special=bool(entry.get("special")),
        strips_right=bool(entry.get("rstrip")),
        strips_left=bool(entry.get("lstrip")),
        single_word=bool(entry.get("single_word")),
    )


def _as_entry(token: AddedToken) -> dict[str, Any]:
    flags = {
        "single_word": token.single_word,
        "lstrip": token.strips_left,
        "rstrip": token.strips_right,
        "normalized": False,
    }
    return {"id": token.id, "content": token.text, "special": token.special, **flags}


def padding_token(model: str, token_id: int) -> Token:
    """What stands for a row of the embedding that no token uses, in a vocabulary of llama.cpp's
    kind `model`: one that no text becomes.

    BPE and SentencePiece only make what merges lead to, WordPiece splits at brackets; Unigram
    and PLaMo 2 find unused tokens too, and go by scores, and RWKV finds every token.
    """
    name = f"[PAD{token_id}]"
    if model == "rwkv":
        return Token(f"\\xff{name}", TokenType.UNUSED)  # a byte that no UTF-8 has
    score = {"t5": NO_MERGE_SCORE, "plamo2": _NEVER}.get(model, 0.0)
    return Token(name, TokenType.UNUSED, score)


def _as_added(existing: Token | None, added: AddedToken, *, is_shown: bool) -> Token:
    if existing is not None and existing.type is TokenType.UNKNOWN:
        return existing
    is_control = added.special and not is_shown
    kind = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
    score = existing.score if existing is not None else NO_MERGE_SCORE
    return Token(added.text, kind, score)
