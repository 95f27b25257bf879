"""Token tables of a tokenizer.json that merges pairs:
byte-level, or SentencePiece's way.

Knows no other files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gguf import TokenType

from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import boolean
from convert.tokenizer.deviation import Deviation
from convert.tokenizer.pretokenizer import find_pretokenizer
from convert.tokenizer.token_table import NO_MERGE_SCORE, Token, TokenTable

SPACE_MARK = "▁"
_SPACES_TO_MARKS = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
_PREPEND_MARK = {"type": "Prepend", "prepend": SPACE_MARK}
# Gemma's: all spaces are marks by then, so there is nothing left to split at.
_SPLIT_AT_NOTHING = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
_METASPACE_DEVIATIONS = {
    "always": frozenset({Deviation.DOUBLED_SPACE}),
    "first": frozenset({Deviation.DOUBLED_SPACE, Deviation.SPACE_AFTER_SPECIAL}),
}


def is_byte_level(pre_tokenizer: Any) -> bool:
    if isinstance(pre_tokenizer, dict):
        stages = pre_tokenizer.get("pretokenizers", [])
        return pre_tokenizer.get("type") == "ByteLevel" or any(map(is_byte_level, stages))
    return False


def byte_level_table(tokenizer: dict[str, Any]) -> TokenTable:
    """Raises `UnsupportedModel` with the reason for a tokenizer
    that llama.cpp would not follow.
    """
    vocab, merges, model = _bpe_model(tokenizer)
    if model.get("byte_fallback"):
        raise UnsupportedModel(
            "The tokenizer is byte-level but also uses byte_fallback, which llama.cpp does not "
            "support."
        )
    section, spaced = _without_prefix_space(tokenizer["pre_tokenizer"])
    pre = find_pretokenizer(section, bool(model.get("ignore_merges", False)))
    return TokenTable(
        model="gpt2",
        pre=pre.name,
        takes_whole_words=pre.ignores_merges,
        tokens={token_id: Token(text, TokenType.NORMAL) for text, token_id in vocab.items()},
        reference=tokenizer,
        merges=tuple(f"{left} {right}" for left, right in merges),
        deviations=frozenset(
            {*pre.deviations, *spaced, *_normalizer_deviations(tokenizer.get("normalizer"))}
        ),
    )


def sentencepiece_table(tokenizer: dict[str, Any], *, ranks_apart: bool = False) -> TokenTable:
    """A SentencePiece tokenizer that was rewritten
    as tokenizer.json, without its tokenizer.model.

    llama.cpp merges the pair whose result scores highest, tokenizer.json the pair of
    lowest rank: scores that fall with the rank of the merge say the same, provided that
    all merges with one result stand together. Added tokens are never merged, and runs
    of one character (Gemma's spaces) come to the same whichever pair goes first. Raises
    `UnsupportedModel` where others stand apart, unless that does not matter (`ranks_apart`),
    and for what else llama.cpp cannot follow.
    """
    vocab, merges, model = _bpe_model(tokenizer)
    if not model.get("byte_fallback"):
        raise UnsupportedModel(
            "The tokenizer is a BPE with neither a byte-level pre-tokenizer nor byte_fallback, "
            "which llama.cpp does not support."
        )
    added = {entry.get("content") for entry in tokenizer.get("added_tokens") or []}
    scores: dict[str, float] = {}
    previous = ""
    for rank, (left, right) in enumerate(merges):
        merged = left + right
        is_apart = merged in scores and merged != previous
        if is_apart and not ranks_apart and merged not in added and len(set(merged)) > 1:
            raise UnsupportedModel(
                f"The tokenizer ranks the merges into {merged!r} apart from each other, which "
                "llama.cpp cannot reproduce."
            )
        scores.setdefault(merged, -float(rank))
        previous = merged
    adds_space, deviations = space_prefix(tokenizer)
    return TokenTable(
        model="llama",
        pre="default",
        tokens={
            token_id: Token(text, _fallback_type(text, model), scores.get(text, NO_MERGE_SCORE))
            for text, token_id in vocab.items()
        },
        reference=tokenizer,
        fields=(boolean("tokenizer.ggml.add_space_prefix", adds_space),),
        deviations=deviations,
    )


# Gemma 4's own: parsers look for their names in the text, as llama.cpp's converter says
_SHOWN = frozenset(
    {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>"}
    | {"<tool_response|>", '<|"|>'}
)


def gemma4_table(tokenizer: dict[str, Any]) -> TokenTable:
    """A SentencePiece tokenizer that was rewritten as tokenizer.json, as llama.cpp keeps
    Gemma 4's: with its merges, each in its rank.

    llama.cpp merges lines and runs of newlines apart. Raises `UnsupportedModel` where a merge
    goes across, and where a space goes before texts.
    """
    table = sentencepiece_table(tokenizer, ranks_apart=True)
    adds_space, _ = space_prefix(tokenizer)
    _, merges, _ = _bpe_model(tokenizer)
    across = next((a + b for a, b in merges if "\n" in a + b and (a + b).strip("\n")), None)
    if across is not None or adds_space:
        what = "puts a space before texts" if across is None else f"merges into {across!r}"
        raise UnsupportedModel(f"The tokenizer {what}, which llama.cpp does not do for Gemma 4.")
    return replace(
        table,
        model="gemma4",
        pre="gemma4",
        merges=tuple(f"{left} {right}" for left, right in merges),
        shown=_SHOWN,
    )


def space_prefix(tokenizer: dict[str, Any]) -> tuple[bool, frozenset[Deviation]]:
    """Whether a space goes before the text, in any of the ways of writing SentencePiece
    as tokenizer.json.
    """
    normalizer, pre = tokenizer.get("normalizer") or {}, tokenizer.get("pre_tokenizer") or {}
    listed = normalizer.get("normalizers", [normalizer] if normalizer else [])
    steps = [step for step in listed if step.get("type") not in _NORMALIZERS]
    told = frozenset(
        _NORMALIZERS[step["type"]] for step in listed if step.get("type") in _NORMALIZERS
    )
    if pre == _SPLIT_AT_NOTHING and _SPACES_TO_MARKS in steps:
        pre = {}
    if not pre and steps == [_PREPEND_MARK, _SPACES_TO_MARKS]:
        return True, told
    if not pre and steps == [_SPACES_TO_MARKS]:
        return False, told
    if not steps and pre.get("type") == "Metaspace" and not pre.get("split", True):
        scheme = pre.get(
            "prepend_scheme", "always" if pre.get("add_prefix_space", True) else "never"
        )
        return scheme != "never", told | _METASPACE_DEVIATIONS.get(scheme, frozenset())
    raise UnsupportedModel(
        f"llama.cpp cannot reproduce the tokenizer's normalizer {normalizer} and pre-tokenizer "
        f"{pre}."
    )


def _without_prefix_space(section: dict[str, Any]) -> tuple[dict[str, Any], list[Deviation]]:
    """A `pre_tokenizer` section that puts no space before texts, where that is all that it did
    with `add_prefix_space`: behind other steps it would put one before each of their pieces.
    """
    steps = section.get("pretokenizers", [section])
    if len(steps) == 1 and steps[0].get("add_prefix_space"):
        return {**steps[0], "add_prefix_space": False}, [Deviation.LEADING_SPACE]
    return section, []


# those that leave most texts as they are
_NORMALIZERS = {"NFC": Deviation.NO_COMPOSITION, "NFKC": Deviation.NO_COMPATIBILITY}


def _normalizer_deviations(normalizer: Any) -> list[Deviation]:
    """Raises `UnsupportedModel` for a normalizer that would change ordinary texts."""
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    if any(step.keys() != {"type"} or step["type"] not in _NORMALIZERS for step in steps):
        raise UnsupportedModel(
            f"The tokenizer normalizes text ({normalizer}), which llama.cpp does not do."
        )
    return [_NORMALIZERS[step["type"]] for step in steps]


def _bpe_model(
    tokenizer: dict[str, Any],
) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, Any]]:
    """Vocabulary, merges and the rest of a BPE tokenizer.json; both spellings of merges
    are read.
    """
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE":
        raise UnsupportedModel(
            f"tokenizer.json is of type {model.get('type')}, but only BPE, WordPiece and "
            "SentencePiece BPE are supported."
        )
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            raise UnsupportedModel(
                f"The tokenizer uses {option}, which llama.cpp does not support."
            )
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise DamagedCheckpoint("tokenizer.json has no vocabulary or no merges.")
    return vocab, [_read_merge(merge) for merge in merges], model


def _read_merge(merge: Any) -> tuple[str, str]:
    match merge.split(" ") if isinstance(merge, str) else merge:
        case [str(left), str(right)] if left and right and " " not in left + right:
            return left, right
        case _:
            raise DamagedCheckpoint(f"tokenizer.json has a malformed merge: {merge}.")


def _fallback_type(text: str, model: dict[str, Any]) -> TokenType:
    if text == model.get("unk_token"):
        return TokenType.UNKNOWN
    is_byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
    return TokenType.BYTE if is_byte else TokenType.NORMAL
