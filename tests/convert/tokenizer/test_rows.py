"""A number of tokens that is not config.json's, and vocabularies that end elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from convert.__main__ import main
from tests.convert.checkpoints import Shape, change_config, write_checkpoint


def converted(source: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """The tokens of the new file, verified, and the notes."""
    out = source.parent / "out"
    assert main([str(source), "--out", str(out), "--types", "Q8_0", "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["verified"]
    path = out / f"{source.name}-Q8_0.gguf"
    return GGUFReader(path).fields["tokenizer.ggml.tokens"].contents(), done["notes"]


@pytest.mark.parametrize(("said", "rows"), [(258, 272), (272, 260)])
def test_the_rows_are_followed(
    said: int, rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(vocab=rows))
    change_config(source, lambda config: config.update(vocab_size=said))
    tokens, notes = converted(source, capsys)
    assert len(tokens) == rows
    assert tokens[259] == "[PAD259]"
    assert notes == [
        f"config.json has a vocab_size of {said}, but the embedding has {rows} rows. The rows were "
        "followed."
    ]


def with_tokens(source: Path, tokens: dict[str, int], merges: list[list[str]]) -> None:
    content: dict[str, Any] = json.loads((source / "tokenizer.json").read_text())
    content["model"]["vocab"] |= tokens
    content["model"]["merges"] += merges
    (source / "tokenizer.json").write_text(json.dumps(content))


def test_tokens_that_no_text_becomes_may_have_no_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(vocab=258))
    with_tokens(source, {"never": 258, "neither": 259}, [])
    tokens, notes = converted(source, capsys)
    assert len(tokens) == 258
    assert notes == [
        "Left out because the model has only 258 rows for tokens: 2 tokens from 258 on, which no "
        "text becomes."
    ]


def test_a_token_that_a_text_becomes_needs_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(vocab=258))
    with_tokens(source, {"hehe": 258}, [["he", "he"]])
    assert main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert "do not belong to the same model" in capsys.readouterr().err
