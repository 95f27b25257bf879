"""Every token that ends an answer is heeded, as far as a GGUF has room for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from convert.__main__ import main
from tests.convert.checkpoints import Shape, change_config, write_checkpoint

NAMES = ["<|end|>", "<|a|>", "<|b|>", "<|c|>", "<|endoftext|>"]  # from 257 on


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = write_checkpoint(tmp_path / "source", Shape(vocab=264))
    path = source / "tokenizer.json"
    content = json.loads(path.read_text())
    end = content["added_tokens"][0]
    content["added_tokens"] = [
        {**end, "id": 257 + index, "content": text} for index, text in enumerate(NAMES)
    ]
    path.write_text(json.dumps(content))
    return source


def convert(source: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], list[str]]:
    out = source.parent / "out"
    assert main([str(source), "--out", str(out), "--types", "Q8_0", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out.splitlines()[-1])["model_notes"]
    fields = GGUFReader(out / "source-Q8_0.gguf").fields
    return {
        name: fields[key].contents() if key in fields else None
        for name in ("eos", "eot", "eom")
        for key in [f"tokenizer.ggml.{name}_token_id"]
    }, notes


@pytest.mark.parametrize(
    ("ends", "ids"),
    [
        (257, (257, 257, None)),
        ([257, 258], (257, 257, 258)),
        ([258, 257, 259], (257, 258, 259)),
        ([257, 258, 261], (257, 257, 258)),  # llama.cpp knows the last one by its text
        ([257, 261, 258, 259], (257, 258, 259)),
    ],
)
def test_up_to_three_ends(
    ends: object,
    ids: tuple[int | None, ...],
    source: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    found, notes = convert(source, capsys)
    assert (found["eos"], found["eot"], found["eom"]) == ids
    assert notes == []


def test_a_template_begins_without_a_byte_order_mark(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "chat_template.jinja").write_text("\ufeff{{ messages }}", encoding="utf-8")
    (source / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|end|>", "add_prefix_space": True})
    )
    _, (note,) = convert(source, capsys)
    fields = GGUFReader(source.parent / "out" / "source-Q8_0.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == "{{ messages }}"
    assert "tokenizer.json was followed" in note


def test_a_fourth_end_is_told(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_config(source, lambda config: config.update(eos_token_id=[257, 258, 259, 260]))
    found, (note,) = convert(source, capsys)
    assert found == {"eos": 257, "eot": 258, "eom": 259}
    assert "These end none any more: '<|c|>'" in note
