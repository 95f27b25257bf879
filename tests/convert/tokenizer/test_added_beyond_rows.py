"""Added tokens for which the embedding has no row, as in the text-only Gemma 3 and in
fine-tuned models with a padding token of their own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from convert.__main__ import main
from tests.convert.checkpoints import SHARED, Shape, write_checkpoint

DRAFT = SHARED / "models" / "novels-draft"
NUM_ROWS = 258  # the tokens of `write_tokenizer`


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", Shape(vocab=NUM_ROWS))


def change_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def add_to_tokenizer(source: Path, *tokens: tuple[int, str]) -> None:
    content = json.loads((source / "tokenizer.json").read_text())
    plain = content["added_tokens"][0]
    entries = [{**plain, "id": token_id, "content": text} for token_id, text in tokens]
    change_json(source / "tokenizer.json", added_tokens=[*content["added_tokens"], *entries])


def convert(source: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, list[str]]:
    """The new file, verified, and the notes."""
    out = source.parent / "out"
    assert main([str(source), "--out", str(out), "--types", "Q8_0", "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["verified"]
    return out / f"{source.name}-Q8_0.gguf", done["notes"]


def tokens(path: Path) -> list[str]:
    names: list[str] = GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
    return names


def test_a_token_without_a_row_is_dropped_with_a_note(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_json(source / "added_tokens.json", **{"<pad>": NUM_ROWS})
    change_json(source / "tokenizer_config.json", pad_token="<pad>")
    add_to_tokenizer(source, (NUM_ROWS, "<pad>"))
    path, notes = convert(source, capsys)
    assert len(tokens(path)) == NUM_ROWS
    assert "<pad>" not in tokens(path)
    assert "tokenizer.ggml.padding_token_id" not in GGUFReader(path).fields
    assert notes == [
        "Left out because the model has only 258 rows for tokens: the added tokens from 258 on "
        "('<pad>'). Their text is read as ordinary text."
    ]


def test_a_token_that_the_vocabulary_lists_too(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_to_tokenizer(source, (NUM_ROWS, "<image_soft_token>"))
    content = json.loads((source / "tokenizer.json").read_text())
    content["model"]["vocab"]["<image_soft_token>"] = NUM_ROWS
    (source / "tokenizer.json").write_text(json.dumps(content))
    path, notes = convert(source, capsys)
    assert len(tokens(path)) == NUM_ROWS
    assert "'<image_soft_token>'" in notes[0]


def test_many_tokens_are_counted(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_to_tokenizer(source, *((NUM_ROWS + i, f"<{i}>") for i in range(5)))
    _, notes = convert(source, capsys)
    assert "('<0>', '<1>', '<2>' and 2 more)" in notes[0]


def test_a_vocabulary_beyond_the_rows_is_still_refused(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((source / "tokenizer.json").read_text())
    content["model"]["vocab"]["hehe"] = NUM_ROWS
    content["model"]["merges"].append(["he", "he"])
    (source / "tokenizer.json").write_text(json.dumps(content))
    assert main([str(source), "--out", str(source.parent / "out")]) == 2
    assert "do not belong to the same model" in capsys.readouterr().err


def test_an_end_token_without_a_row_is_refused(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_to_tokenizer(source, (NUM_ROWS, "<|im_end|>"))
    change_json(source / "tokenizer_config.json", eos_token="<|im_end|>")
    change_json(source / "generation_config.json", eos_token_id=NUM_ROWS)
    assert main([str(source), "--out", str(source.parent / "out")]) == 2
    assert "end-of-sequence" in capsys.readouterr().err


@pytest.mark.skipif(not DRAFT.exists(), reason=f"{DRAFT} is not there")
def test_a_real_checkpoint_with_a_padding_token_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "draft"
    shutil.copytree(DRAFT, source, copy_function=shutil.copyfile)
    source.chmod(0o755)
    change_json(source / "added_tokens.json", **{"<pad>": 4096})
    add_to_tokenizer(source, (4096, "<pad>"))
    path, notes = convert(source, capsys)
    assert len(tokens(path)) == 4096
    assert "4096 rows" in notes[0]
