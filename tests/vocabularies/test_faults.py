"""Vocabularies that cannot be used are refused by their headers, before native code
reads them; a fuzzer looks for others.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import BadModelFile
from appliance.store.servable import read_servable_header
from tests.vocabularies.charsmaps import charsmap
from tests.vocabularies.kinds import (
    BYTE,
    KINDS,
    byte_level,
    rwkv,
    sentencepiece,
    unigram,
    wordpiece,
)
from tests.vocabularies.made_model import Key, Vocabulary, write_made_model, write_vocabulary

NUM_FUZZED = 300
LIGATURE = {"ﬁ": "fi", "Ａ": "A"}


def with_keys(vocabulary: Vocabulary, **keys: Key) -> Vocabulary:
    return replace(vocabulary, keys={**vocabulary.keys, **keys})


def with_token(vocabulary: Vocabulary, at: int, text: str) -> Vocabulary:
    tokens = list(vocabulary.tokens)
    tokens[at] = text
    return replace(vocabulary, tokens=tokens)


def with_type(vocabulary: Vocabulary, at: int) -> Vocabulary:
    types = list(vocabulary.types)
    types[at] = BYTE
    return replace(vocabulary, types=types)


def with_charsmap(entry: int, value: int) -> Vocabulary:
    """One entry of it spoilt."""
    data = bytearray(charsmap(LIGATURE))
    struct.pack_into("<I", data, 4 * (entry + 1), value)
    return with_keys(unigram(), precompiled_charsmap=bytes(data))


FAULTS: Mapping[str, tuple[Callable[[], Vocabulary], str]] = {
    "none": (lambda: replace(byte_level(), model="none"), "has no vocabulary"),
    "no_vocab": (lambda: replace(byte_level(), model="no_vocab"), "has no vocabulary"),
    "unknown": (lambda: replace(byte_level(), model="bytes"), "'bytes', which is no tokenizer"),
    "no tokens": (lambda: replace(byte_level(), tokens=[], types=[]), "tokens is empty or absent"),
    "few scores": (lambda: replace(sentencepiece(), scores=[0.0]), "scores has 1 values for 415"),
    "no scores": (lambda: replace(sentencepiece(), scores=None), "no tokenizer.ggml.scores"),
    "few types": (lambda: replace(byte_level(), types=[BYTE]), "token_type has 1 values for 318"),
    "no types": (lambda: replace(unigram(), types=[]), "no tokenizer.ggml.token_type"),
    "no merges": (lambda: replace(byte_level(), merges=None), "no tokenizer.ggml.merges"),
    "NaN": (
        lambda: replace(unigram(), scores=[float("nan")] * 160),
        "score of its token 0 is not a number",
    ),
    "twice": (lambda: with_token(byte_level(), 9, "a"), "are the same ('a')"),
    "two empty": (
        lambda: with_token(with_token(byte_level(), 9, ""), 8, "[EMPTY_9]"),
        r"tokens 8 and 9 are the same ('[EMPTY_9]')",
    ),
    "up to NUL": (lambda: with_token(byte_level(), 9, "a\0b"), "are the same ('a')"),
    "long": (lambda: with_token(byte_level(), 9, "x" * 9000), "token 9 is 9000 bytes long"),
    "no byte": (lambda: with_token(sentencepiece(), 8, "<0x0a>"), "said to be a byte"),
    "WordPiece byte": (lambda: with_type(wordpiece(), 9), "said to be a byte"),
    "EOS": (lambda: with_keys(byte_level(), eos_token_id=318), "id is 318, but it has 318 tokens"),
    "BOS": (lambda: with_keys(sentencepiece(), bos_token_id=10**6), "bos_token_id is 1000000"),
    "no [CLS]": (
        lambda: replace(wordpiece(), keys={"seperator_token_id": 3, "bos_token_id": 148}),
        "bos_token_id is 148",
    ),
    "no [UNK]": (
        lambda: replace(wordpiece(), tokens=wordpiece().tokens[:50], types=wordpiece().types[:50],
                        keys={"bos_token_id": 2, "seperator_token_id": 3}),
        "unknown_token_id is 100",
    ),
    "RWKV": (lambda: with_token(rwkv(), ord("t") + 1, "tx"), "begin with the byte 116"),
    "charsmap size": (
        lambda: with_keys(unigram(), precompiled_charsmap=b"\xff\xff\xff\x7f"),
        "charsmap is shorter than it says",
    ),
    "charsmap end": (
        lambda: with_keys(unigram(), precompiled_charsmap=charsmap(LIGATURE) + b"x"),
        "charsmap does not end with a NUL",
    ),
    "charsmap root": (
        lambda: with_charsmap(0, 1 << 30),
        "leads out of its",
    ),
    "charsmap value": (
        lambda: with_charsmap(256 * 4, (1 << 31) | 999),
        "leads out of its 5 bytes of replacements",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_in_words(fault: str, tmp_path: Path) -> None:
    make, words = FAULTS[fault]
    path = write_vocabulary(tmp_path / "faulty.gguf", make())
    with pytest.raises(BadModelFile) as refused:
        read_servable_header(path)
    assert words in refused.value.message
    assert str(path) in refused.value.message


@pytest.mark.parametrize("kind", [*KINDS, "wordpiece"])
def test_every_kind_is_taken(kind: str, tmp_path: Path) -> None:
    vocabulary = wordpiece() if kind == "wordpiece" else KINDS[kind]()
    read_servable_header(write_made_model(tmp_path / "sound.gguf", vocabulary))


def test_ids_of_no_token_mean_none(tmp_path: Path) -> None:
    vocabulary = with_keys(byte_level(), bos_token_id=2**32 - 1, padding_token_id=10**6)
    read_servable_header(write_vocabulary(tmp_path / "sound.gguf", vocabulary))


def test_no_vocabulary_ends_the_process(tmp_path: Path) -> None:
    """More of them: `python -m tests.vocabularies.fuzz FOLDER 100000`."""
    command = [sys.executable, "-m", "tests.vocabularies.fuzz", str(tmp_path), str(NUM_FUZZED)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    ends = json.loads(child.stdout)
    assert sum(ends.values()) == NUM_FUZZED
    assert min(ends["used"], ends["refused by its header"]) > NUM_FUZZED // 5
