"""Which of llama.cpp's pre-tokenizers splits text as a tokenizer.json does.

Knows no vocabularies and no merges.

Decided by behaviour: the `pre_tokenizer` section is run by Hugging Face's `tokenizers`
on the sample texts, and so is every candidate; the one that splits them in the same
places is it, however its expressions are spelled. The names are those of llama.cpp's
src/llama-vocab.cpp (`llm_tokenizer_bpe`), the expressions those of the tokenizers each
name was made for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers

from convert.child import ChildDied, Refused, ask
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.tokenizer.deviation import Deviation
from convert.tokenizer.sample_texts import SAMPLE_TEXTS

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"

DIGIT = r"\p{N}"
UP_TO_THREE_DIGITS = r"\p{N}{1,3}"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", DIGIT)
QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_UPPER_BUT_HAN = _UPPER[:-1] + r"&&[^\p{Han}]]"
_LOWER_BUT_HAN = _LOWER[:-1] + r"&&[^\p{Han}]]"
_PUNCTUATION_AND_PATHS = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_WORD_PREFIX = r"[^\r\n\p{L}\p{N}]?"
TEKKEN = (
    rf"{_WORD_PREFIX}{_UPPER}*{_LOWER}+|{_WORD_PREFIX}{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}|{_PUNCTUATION_AND_PATHS}"
)
GPT4O = (
    rf"{_WORD_PREFIX}{_UPPER}*{_LOWER}+{_CONTRACTION}?"
    rf"|{_WORD_PREFIX}{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}|{_PUNCTUATION_AND_PATHS}"
)
CJK = "[一-龥぀-ゟ゠-ヿ]+"
KIMI = (
    rf"[\p{{Han}}]+|{_WORD_PREFIX}{_UPPER_BUT_HAN}*{_LOWER_BUT_HAN}+{_CONTRACTION}?"
    rf"|{_WORD_PREFIX}{_UPPER_BUT_HAN}+{_LOWER_BUT_HAN}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
SEED_CODER = QWEN2.replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+")
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"


@dataclass(frozen=True)
class PreTokenizer:
    """A pre-tokenizer of llama.cpp."""

    name: str  # llama.cpp's
    expressions: tuple[str, ...]  # text is split by each in turn
    ignores_merges: bool = False  # whole words skip the merges; llama.cpp goes by the name
    deviations: tuple[Deviation, ...] = ()


KNOWN: tuple[PreTokenizer, ...] = (
    PreTokenizer("gpt-2", (GPT2,)),
    PreTokenizer("smollm", (DIGIT, GPT2)),
    PreTokenizer("llama-bpe", (LLAMA3,), ignores_merges=True),
    PreTokenizer("dbrx", (LLAMA3,)),
    PreTokenizer("qwen2", (QWEN2,)),
    PreTokenizer("qwen35", (QWEN35,)),
    PreTokenizer("seed-coder", (SEED_CODER,)),
    PreTokenizer(
        "deepseek-coder", (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT)
    ),
    PreTokenizer("deepseek-v3", (UP_TO_THREE_DIGITS, CJK, DEEPSEEK3)),
    PreTokenizer("tekken", (TEKKEN,), ignores_merges=True, deviations=(Deviation.CASE_AND_MARKS,)),
    PreTokenizer("gpt-4o", (GPT4O,), deviations=(Deviation.CASE_AND_MARKS,)),
    PreTokenizer(
        "kimi-k2", (KIMI,), deviations=(Deviation.CASE_AND_MARKS, Deviation.INNER_CAPITALS)
    ),
    PreTokenizer("bloom", (BLOOM,)),
)

Splits = tuple[tuple[str, ...], ...]
SPLIT_CPU_S = 10  # of a processor's time, for all sample texts; the known ones take 0.01


def find_pretokenizer(section: dict[str, Any], ignores_merges: bool) -> PreTokenizer:
    """The known pre-tokenizer that behaves as a `pre_tokenizer` section
    of a byte-level BPE does.

    Raises `UnsupportedModel` with what it found where llama.cpp has nothing that splits
    the same way.
    """
    alike = pretokenizers_like(section)
    for known in alike:
        if known.ignores_merges == ignores_merges:
            return known
    raise _unknown(
        f"splits text as {alike[0].name} does with ignore_merges={str(ignores_merges).lower()}"
    )


def pretokenizers_like(section: dict[str, Any]) -> list[PreTokenizer]:
    """The known ones that split as a `pre_tokenizer` section does, at least one.

    Raises `UnsupportedModel` as `find_pretokenizer`.
    """
    splits = _split_in_time(section)
    alike = [known for known in KNOWN if _splits_of(known) == splits]
    if not alike:
        described = json.dumps(section, ensure_ascii=False)
        raise _unknown(f"splits {_first_odd_text(splits)} by {described}")
    return alike


def _unknown(found: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"No supported pre-tokenizer of llama.cpp {found}. With a different one, the model would "
        "read other tokens than it was trained on."
    )


def isolating(expressions: tuple[str, ...]) -> pre_tokenizers.PreTokenizer:
    """Splits by each expression in turn, then shows bytes as GPT-2's characters."""
    stages = [
        pre_tokenizers.Split(Regex(expression), behavior="isolated") for expression in expressions
    ]
    return pre_tokenizers.Sequence(
        [*stages, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _from_section(section: dict[str, Any]) -> pre_tokenizers.PreTokenizer:
    model = {"type": "BPE", "vocab": {}, "merges": []}
    try:
        tokenizer = Tokenizer.from_str(json.dumps({"model": model, "pre_tokenizer": section}))
    except Exception as error:  # the library raises nothing narrower
        raise DamagedCheckpoint(
            f"tokenizer.json has a pre_tokenizer that cannot be read: {error}"
        ) from error
    pre_tokenizer: pre_tokenizers.PreTokenizer = tokenizer.pre_tokenizer
    return pre_tokenizer


def _split_in_time(section: dict[str, Any]) -> Splits:
    """As `split_sample`; by expressions of others in a child, which is ended where it takes too
    long: some take for ever by a text of a few dozen letters.
    """
    ours = {expression for known in KNOWN for expression in known.expressions}
    if set(_expressions(section)) <= ours:
        return split_sample(section)
    try:
        pieces = ask("convert.native.split_child", {"section": section, "cpu_s": SPLIT_CPU_S})
    except Refused as refused:
        raise DamagedCheckpoint(str(refused)) from refused
    except ChildDied as died:
        raise DamagedCheckpoint(
            "tokenizer.json has a pre_tokenizer that did not split a few short texts in "
            f"{SPLIT_CPU_S} seconds: {json.dumps(section, ensure_ascii=False)[:500]}. Use another "
            "copy of this model."
        ) from died
    return tuple(tuple(text) for text in pieces)


def _expressions(section: object) -> Iterator[str]:
    """All that a section splits or replaces by."""
    if isinstance(section, dict):
        for key, value in section.items():
            if key == "Regex" and isinstance(value, str):
                yield value
            yield from _expressions(value)
    elif isinstance(section, list):
        for item in section:
            yield from _expressions(item)


def split_sample(section: dict[str, Any]) -> Splits:
    """The pieces of each sample text. Raises `DamagedCheckpoint` for a section that is none."""
    return _pieces(_from_section(section))


def _pieces(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Splits:
    return tuple(
        tuple(piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)) for text in SAMPLE_TEXTS
    )


@cache
def _splits_of(known: PreTokenizer) -> Splits:
    return _pieces(isolating(known.expressions))


def _first_odd_text(splits: Splits) -> str:
    """A text and its pieces, where even the most common
    pre-tokenizer splits otherwise.
    """
    for text, pieces, usual in zip(SAMPLE_TEXTS, splits, _splits_of(KNOWN[0]), strict=True):
        if pieces != usual:
            return f"{text!r} into {list(pieces[:8])} ..."
    return "the sample"
