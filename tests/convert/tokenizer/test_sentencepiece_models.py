"""SentencePiece models without a tokenizer.json: what SentencePiece made of the sample is what
the tokenizer.json that we compare with makes, and llama.cpp with the GGUF.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.tokenizer.deviation import Deviation, comparable
from convert.tokenizer.sentencepiece_model import read_sentencepiece
from convert.tokenizer.vocab import Vocabulary
from tests.convert.tokenizer.vocabulary_files import verified

GOLDEN = Path(__file__).parent / "golden"
ANSWERS: dict[str, Any] = json.loads((GOLDEN / "sentencepiece.json").read_text())


def folder(directory: Path, model: str, name: str, **tokenizer_config: Any) -> Path:
    (directory / name).write_bytes((GOLDEN / f"{model}.model").read_bytes())
    config = {"eos_token": "</s>", "bos_token": "<s>", **tokenizer_config}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def num_pieces(model: str) -> int:
    return len(read_sentencepiece(GOLDEN / f"{model}.model").pieces)


def assert_as_sentencepiece(vocabulary: Vocabulary, model: str, shift: int = 0) -> None:
    tokenizer = Tokenizer.from_str(json.dumps(vocabulary.reference))
    for text, expected in zip(ANSWERS["texts"], ANSWERS["ids"][model], strict=True):
        if text != comparable(text, vocabulary.deviations):
            continue
        ids = [3 if shift and token_id == 0 else token_id + shift for token_id in expected]
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text


@pytest.mark.parametrize(
    ("model", "deviations"),
    [
        ("unigram", set()),
        ("unigram_plain", {Deviation.SPACE_AFTER_SPECIAL, Deviation.ONLY_SPACES}),
        ("unigram_no_prefix", set()),
        ("bpe", set()),
        ("bpe_no_prefix", set()),
    ],
)
def test_a_model_alone(model: str, deviations: set[Deviation], tmp_path: Path) -> None:
    vocabulary = verified(folder(tmp_path, model, "tokenizer.model"), num_pieces(model) + 3)
    assert vocabulary.deviations == deviations
    assert vocabulary.table.model == ("t5" if model.startswith("unigram") else "llama")
    assert_as_sentencepiece(vocabulary, model)


def test_xlm_robertas_ids_are_other_ones(tmp_path: Path) -> None:
    source = folder(
        tmp_path, "unigram", "sentencepiece.bpe.model", tokenizer_class="XLMRobertaTokenizer"
    )
    vocabulary = verified(source, num_pieces("unigram") + 2)
    texts = [token.text for token in vocabulary.tokens]
    assert texts[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert texts[-1] == "<mask>"
    special = vocabulary.special
    assert (special.bos, special.pad, special.eos, special.unk) == (0, 1, 2, 3)
    assert (special.add_bos, special.add_eos) == (True, True)
    assert_as_sentencepiece(vocabulary, "unigram", shift=1)


def test_t5_has_sentinels_behind_its_pieces(tmp_path: Path) -> None:
    source = folder(tmp_path, "unigram", "spiece.model", bos_token=None, extra_ids=4)
    vocabulary = verified(source, num_pieces("unigram") + 6, model_type="t5")
    first = num_pieces("unigram")
    texts = [token.text for token in vocabulary.tokens[first:]]
    assert texts[:4] == ["<extra_id_3>", "<extra_id_2>", "<extra_id_1>", "<extra_id_0>"]
    assert (vocabulary.special.add_bos, vocabulary.special.add_eos) == (False, True)


def test_padding_is_no_text(tmp_path: Path) -> None:
    """llama.cpp's Unigram finds unused tokens too, by their scores."""
    rows = num_pieces("unigram")
    vocabulary = verified(folder(tmp_path, "unigram", "spiece.model"), rows + 1)
    assert (vocabulary.tokens[rows].text, vocabulary.tokens[rows].score) == (f"[PAD{rows}]", -1e9)


@pytest.mark.parametrize(
    ("algorithm", "reason"), [(3, "SentencePiece word model"), (4, "SentencePiece char model")]
)
def test_other_kinds_are_refused(algorithm: int, reason: str, tmp_path: Path) -> None:
    source = folder(tmp_path, "bpe", "tokenizer.model")
    path = source / "tokenizer.model"
    path.write_bytes(path.read_bytes() + bytes([0x12, 2, 0x18, algorithm]))  # the trainer again
    with pytest.raises(UnsupportedModel, match=reason):
        verified(source, 1000)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (b"\x12\x05\x18\x01\xc0\x01\x01", "a word's space behind it"),
        (b"\x1a\x02\x18\x00", "puts none before a text"),
        (b"\x0a\x0a\x0a\x06<0x00>\x18\x06", "unknown characters as bytes"),
    ],
)
def test_what_llama_cpp_does_not_do_is_refused(more: bytes, reason: str, tmp_path: Path) -> None:
    source = folder(tmp_path, "unigram", "spiece.model")
    path = source / "spiece.model"
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(UnsupportedModel, match=reason):
        verified(source, 1000)


def test_an_xlm_roberta_with_other_pieces_in_front_is_refused(tmp_path: Path) -> None:
    source = folder(tmp_path, "unigram", "spiece.model", tokenizer_class="XLMRobertaTokenizerFast")
    path = source / "spiece.model"
    path.write_bytes(path.read_bytes().replace(b"\x05<unk>", b"\x05<unq>", 1))
    with pytest.raises(DamagedCheckpoint, match="must begin with <unk>"):
        verified(source, 1000)
