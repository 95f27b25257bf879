"""Checkpoints whose tokenizer is vocab.json and merges.txt alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from convert.__main__ import main
from tests.convert.checkpoints import Shape, change_config, write_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """With the older files of its tokenizer."""
    source = write_checkpoint(tmp_path / "source", Shape())
    model = json.loads((source / "tokenizer.json").read_text())["model"]
    (source / "tokenizer.json").unlink()
    (source / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (source / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    return source


def describe(source: Path, **tokenizer_config: Any) -> None:
    config = {"eos_token": "<|end|>", **tokenizer_config}
    (source / "tokenizer_config.json").write_text(json.dumps(config))


def fields(source: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = source.parent / "out"
    assert main([str(source), "--out", str(out), "--types", "Q8_0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["verified"]
    reader = GGUFReader(out / "source-Q8_0.gguf")
    return {key: field.contents() for key, field in reader.fields.items()}


@pytest.mark.parametrize(
    ("tokenizer_class", "model_type", "pre"),
    [
        ("GPT2Tokenizer", None, "gpt-2"),
        ("GPT2TokenizerFast", "llama", "gpt-2"),
        ("Qwen2Tokenizer", None, "qwen2"),
        (None, "qwen3", "qwen2"),
    ],
)
def test_they_convert_where_the_class_is_known(
    tokenizer_class: str | None,
    model_type: str | None,
    pre: str,
    source: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    describe(source, **({"tokenizer_class": tokenizer_class} if tokenizer_class else {}))
    change_config(source, lambda config: config.update(model_type=model_type))
    found = fields(source, capsys)
    assert found["tokenizer.ggml.pre"] == pre
    assert found["tokenizer.ggml.merges"] == ["h e"]
    assert found["tokenizer.ggml.token_type"][257] == 3, "the end is a control token"


def test_added_tokens_of_other_files_count(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    describe(source, tokenizer_class="GPT2Tokenizer")
    (source / "added_tokens.json").write_text('{"<|turn|>": 258}')
    assert fields(source, capsys)["tokenizer.ggml.tokens"][258] == "<|turn|>"


@pytest.mark.parametrize(
    ("tokenizer_config", "parts"),
    [
        ({}, ["(without a tokenizer_class)", "AutoTokenizer", "save_pretrained("]),
        ({"tokenizer_class": "CodeGenTokenizer"}, ["(CodeGenTokenizer)", "AutoTokenizer"]),
        ({"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": True}, ["add_prefix_space"]),
    ],
)
def test_others_are_told_the_line_that_makes_a_tokenizer_json(
    tokenizer_config: dict[str, Any],
    parts: list[str],
    source: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    describe(source, **tokenizer_config)
    assert main([str(source), "--out", str(source.parent / "out")]) == 2
    message = capsys.readouterr().err
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("vocab.json", '{"a": "b"}', "has ids that are no whole numbers"),
        ("merges.txt", "a b c\n", "malformed merge"),
    ],
)
def test_malformed_files_are_refused(
    name: str, content: str, part: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    describe(source, tokenizer_class="GPT2Tokenizer")
    (source / name).write_text(content)
    assert main([str(source), "--out", str(source.parent / "out")]) == 2
    assert part in capsys.readouterr().err
