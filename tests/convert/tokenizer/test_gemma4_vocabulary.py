"""Gemma 4's vocabulary, as llama.cpp keeps it: with the merges themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors, trainers

from convert.errors import UnsupportedModel
from convert.tokenizer.sample_texts import SAMPLE_TEXTS
from tests.convert.tokenizer.vocabulary_files import verified

SPECIAL = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<turn|>",
]


def gemma4(directory: Path, *more_merges: tuple[str, str]) -> Path:
    """A BPE on characters, trained on the sample, with bytes for what has no token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, limit_alphabet=120, show_progress=False
    )
    # lines, and apart from them runs of newlines: no merges across
    lines = [part for text in SAMPLE_TEXTS for part in text.split("\n")]
    tokenizer.train_from_iterator([*lines * 2, *["\n" * 6] * 4], trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        "<bos> $A", special_tokens=[("<bos>", 2)]
    )
    content = json.loads(tokenizer.to_str())
    vocab = content["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    for left, right in more_merges:
        content["model"]["merges"].append([left, right])
        vocab.setdefault(left + right, len(vocab))
    (directory / "tokenizer.json").write_text(json.dumps(content))
    roles = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(roles))
    return directory


def load(directory: Path, **config: Any) -> Any:
    return verified(directory, 1200, **{"model_type": "gemma4", **config})


def test_merges_in_their_ranks(tmp_path: Path) -> None:
    vocabulary = load(gemma4(tmp_path))
    assert (vocabulary.table.model, vocabulary.table.pre) == ("gemma4", "gemma4")
    assert vocabulary.special.add_bos


def test_merges_that_stand_apart_are_no_reason_to_refuse(tmp_path: Path) -> None:
    """As llama.cpp's `llama` must, which goes by the scores of what merges make."""
    source = gemma4(tmp_path, ("u", "a"), ("ua", "o"), ("a", "o"), ("u", "ao"))
    load(source)
    with pytest.raises(UnsupportedModel, match="apart from each other"):
        load(source, model_type="gemma3")


def test_tokens_that_a_parser_looks_for_are_text(tmp_path: Path) -> None:
    tokens = {token.text: token.type for token in load(gemma4(tmp_path)).tokens}
    for name in ("<|channel>", "<channel|>", "<|tool_call>"):
        assert tokens[name] is TokenType.USER_DEFINED
    assert tokens["<turn|>"] is TokenType.CONTROL


def test_merges_across_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"merges into 'a\\n'"):
        load(gemma4(tmp_path, ("a", "\n")))
