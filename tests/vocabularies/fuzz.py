"""Vocabularies with faults, by chance: each is refused by its header, refused by
llama.cpp in words, or can be used; nothing ends the process.

Knows no server. Runs in a child, which a fault would end: the last line it wrote names it.

Run: python -m tests.vocabularies.fuzz FOLDER COUNT [FIRST_SEED]
Prints a JSON object: how many were refused by whom, and how many were used.
"""

from __future__ import annotations

import collections
import functools
import json
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf

from appliance.errors import ApplianceError, BadModelFile, BadRequest
from appliance.llama.model import Model
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import Grammar
from appliance.store.servable import read_servable_header
from appliance.worker.child.tokenizing.grammars import LazyGrammars
from appliance.worker.child.tokenizing.text_pieces import text_pieces
from tests.vocabularies.charsmaps import charsmap
from tests.vocabularies.kinds import KINDS, wordpiece
from tests.vocabularies.made_model import Vocabulary, write_vocabulary

TEXTS = ("", "the answer", " the\n\n", "😀é\x00\x01", "<user></s><unk>", "\ufffd日本 ab" * 20)
IDS = ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "seperator_token_id")
MODELS = (
    "none",
    "no_vocab",
    "llama",
    "gpt2",
    "t5",
    "bert",
    "rwkv",
    "gemma4",
    "plamo2",
    "test",
    "x",
)
NAMES: tuple[Any, ...] = (
    "",
    "\x00",
    "a\x00b",
    "<0xGG>",
    "<0x4",
    " ",
    "▁",
    "é" * 9,
    b"\xff\xfe",
    "\\x6",
)
SOURCES: dict[str, Callable[[], Vocabulary]] = {**KINDS, "wordpiece": wordpiece}


def broken(chance: random.Random) -> Vocabulary:
    """One of some kind with one to four faults."""
    vocabulary = SOURCES[chance.choice(list(SOURCES))]()
    for _ in range(chance.randrange(1, 5)):
        vocabulary = chance.choice(FAULTS)(vocabulary, chance)
    return vocabulary


def _other_model(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    return replace(vocabulary, model=chance.choice(MODELS))


def _fewer_tokens(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    return replace(vocabulary, tokens=vocabulary.tokens[: chance.choice([0, 1, 5, 60, 200])])


def _other_token(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    tokens = list(vocabulary.tokens)
    if tokens:
        tokens[chance.randrange(len(tokens))] = chance.choice(
            [*NAMES, chance.choice(tokens), "x" * chance.choice([100, 9000])]
        )
    return replace(vocabulary, tokens=tokens)


def _lost_token(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    if not vocabulary.tokens:
        return vocabulary
    at = chance.randrange(len(vocabulary.tokens))
    return replace(
        vocabulary,
        tokens=vocabulary.tokens[:at] + vocabulary.tokens[at + 1 :],
        types=vocabulary.types[:at] + vocabulary.types[at + 1 :],
    )


def _other_types(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    types = list(vocabulary.types)
    for _ in range(chance.randrange(1, 4)):
        types[chance.randrange(len(types))] = chance.choice([*gguf.TokenType, 0, 7, -3])
    return replace(vocabulary, types=types[: chance.choice([len(types), len(types), 3])])


def _other_scores(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    scores = list(vocabulary.scores or [])
    if scores:
        scores[chance.randrange(len(scores))] = chance.choice([float("nan"), float("inf"), 1e30])
    return replace(vocabulary, scores=chance.choice([None, scores, scores, scores[:9]]) or None)


def _other_merges(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    merges: list[Any] = [
        *(vocabulary.merges or []),
        chance.choice(["", " ", "ab", "a b c", b"\xff "]),
    ]
    return replace(vocabulary, merges=chance.choice([None, merges]))


def _other_id(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    number = chance.choice([0, 3, 11, 10**6, 2**32 - 1, len(vocabulary.tokens)])
    return _with_key(vocabulary, chance.choice(IDS), number)


def _lost_key(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    keys = dict(vocabulary.keys)
    if keys:
        del keys[chance.choice(list(keys))]
    return replace(vocabulary, keys=keys)


def _other_flag(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    name = chance.choice(
        ["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"]
    )
    return _with_key(vocabulary, name, chance.random() < 0.5)


def _other_pre(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    return _with_key(vocabulary, "pre", chance.choice(["llama-bpe", "qwen2", "x", "kimi-k2", ""]))


def _other_charsmap(vocabulary: Vocabulary, chance: random.Random) -> Vocabulary:
    data = bytearray(charsmap({"ﬁ": "fi", "Ａ": "A", "a": "b"}))
    for _ in range(chance.choice([0, 1, 1, 5])):
        struct.pack_into("<I", data, 4 * chance.randrange(len(data) // 4), chance.getrandbits(32))
    return _with_key(vocabulary, "precompiled_charsmap", data[: chance.choice([None, None, 2, 40])])


def _with_key(vocabulary: Vocabulary, name: str, value: Any) -> Vocabulary:
    return replace(vocabulary, keys={**vocabulary.keys, name: value})


FAULTS: list[Callable[[Vocabulary, random.Random], Vocabulary]] = [
    _other_model,
    _fewer_tokens,
    _other_token,
    _lost_token,
    _other_types,
    _other_scores,
    _other_merges,
    _other_id,
    _lost_key,
    _other_flag,
    _other_pre,
    _other_charsmap,
]


def use(path: Path) -> None:
    """Does with the vocabulary what requests do.

    Raises `ApplianceError` where it cannot be loaded.
    """
    model = Model(path, use_extra_bufts=False, vocab_only=True)
    try:
        for text in TEXTS:
            for parse_special in (True, False):
                _use_text(model, text, parse_special=parse_special)
        everything = list(range(model.num_vocab))
        text_pieces(model, everything, shows_special=True)
        for name in IDS:
            written = model.metadata(f"tokenizer.ggml.{name}")
            model.text_of(int(written) if written and written.isdecimal() else None)
        _use_all(model)
    finally:
        model.close()


def _use_text(model: Model, text: str, *, parse_special: bool) -> None:
    try:
        tokens = model.tokenize(text, parse_special=parse_special)
    except BadRequest:
        return
    assert all(0 <= token < model.num_vocab for token in tokens), (text, tokens)
    text_pieces(model, tokens, shows_special=True)


def _use_all(model: Model) -> None:
    grammars = LazyGrammars(model)
    for use_it in (
        model.tokens_around,
        functools.partial(grammars.compile, Grammar(GrammarKind.REGEX, "the[ab]+", "grammar")),
    ):
        try:
            use_it()
        except ApplianceError:
            continue


def main(argv: list[str]) -> None:
    folder, count, first = Path(argv[0]), int(argv[1]), int((argv[2:] or ["0"])[0])
    path = folder / "broken.gguf"
    ends: collections.Counter[str] = collections.Counter()
    for seed in range(first, first + count):
        print(f"seed {seed}", file=sys.stderr, flush=True)
        write_vocabulary(path, broken(random.Random(seed)))
        try:
            read_servable_header(path)
            use(path)
        except BadModelFile:
            ends["refused by its header"] += 1
        except ApplianceError:
            ends["refused by llama.cpp"] += 1
        else:
            ends["used"] += 1
    json.dump(ends, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
