"""Added tokens that drop the spaces beside them, or are only found as whole words
(Phi-4): llama.cpp does neither, which is said, and everything else about them compared
before anything is quantized.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convert.__main__ import main
from convert.pipeline import Conversion
from convert.tokenizer import bpe_tables
from convert.tokenizer.pretokenizer import KNOWN, PreTokenizer
from tests.convert.checkpoints import Shape, write_checkpoint

SPACES = (
    "llama.cpp keeps the spaces beside '<|end|>', which this tokenizer drops: text with spaces "
    "there gives other tokens. Chat templates rarely have any."
)
WORDS = "llama.cpp finds '<|end|>' inside words too, where this tokenizer does not."


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", Shape())


def change_end(source: Path, **flags: bool) -> None:
    path = source / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"] = [{**content["added_tokens"][0], **flags}]
    path.write_text(json.dumps(content))


def convert(source: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    out = source.parent / "out"
    assert main([str(source), "--out", str(out), "--types", "Q8_0", "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("flags", "notes"),
    [
        ({"lstrip": True, "rstrip": True}, [SPACES]),
        ({"lstrip": True}, [SPACES]),
        ({"rstrip": True}, [SPACES]),
        ({"single_word": True}, [WORDS]),
        ({"single_word": True, "lstrip": True}, [SPACES, WORDS]),
        ({}, []),
    ],
)
def test_what_llama_cpp_cannot_do_is_said_and_the_rest_compared(
    flags: dict[str, bool],
    notes: list[str],
    source: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change_end(source, **flags)
    done = convert(source, capsys)
    assert done["verified"]
    assert done["notes"] == notes


def test_a_long_list_is_cut_short(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoder = {str(i): {"content": f"<|{i}|>", "special": True, "lstrip": True} for i in (258, 259)}
    config = {"eos_token": "<|end|>", "added_tokens_decoder": decoder}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    change_end(source, rstrip=True)
    (note,) = convert(source, capsys)["notes"]
    assert "beside '<|end|>', '<|258|>', '<|259|>', which" in note


def test_a_vocabulary_is_compared_before_anything_is_quantized(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = PreTokenizer("no-such-thing", KNOWN[0].expressions)
    monkeypatch.setattr(bpe_tables, "find_pretokenizer", lambda section, ignores_merges: wrong)

    def write(*_args: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(Conversion, "write", write)
    assert main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert "unknown pre-tokenizer type" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
