"""A file that tokenizes otherwise than its checkpoint is not published; what cannot be
mended is reported.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from convert.__main__ import main
from convert.tokenizer import bpe_tables, vocab, wordpiece
from convert.tokenizer.pretokenizer import KNOWN, PreTokenizer
from tests.convert.checkpoints import EMBEDDED, SHARED, Shape, write_checkpoint

SHARED_MODELS = SHARED / "models"


def run(source: Path, out: Path, *options: str) -> int:
    return main([str(source), "--out", str(out), "--types", "Q8_0", *options])


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def use_pretokenizer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Makes the converter write a wrong pre-tokenizer."""
    wrong = PreTokenizer(name, KNOWN[0].expressions)
    monkeypatch.setattr(bpe_tables, "find_pretokenizer", lambda section, ignores_merges: wrong)


def test_a_wrong_pretokenizer_is_found_and_nothing_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_pretokenizer(monkeypatch, "smollm" if _embedded_pre() != "smollm" else "gpt-2")
    assert run(EMBEDDED / "novels-6m", tmp_path) == 2
    message = capsys.readouterr().err
    assert "do not tokenize text as the checkpoint does: for the text " in message
    assert "llama.cpp gives [" in message
    assert list(tmp_path.iterdir()) == []
    assert run(EMBEDDED / "novels-6m", tmp_path, "--no-verify") == 0


def _embedded_pre() -> str:
    return vocab.load_vocabulary(
        EMBEDDED / "novels-6m", vocab.Config("config.json", {}), vocab_size=4096
    ).table.pre


def test_a_file_that_llama_cpp_does_not_load_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_pretokenizer(monkeypatch, "no-such-thing")
    assert run(EMBEDDED / "novels-6m", tmp_path) == 2
    assert "unknown pre-tokenizer type: 'no-such-thing'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_crash_of_llama_cpp_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\necho GGML_ASSERT >&2\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr("convert.child.sys.executable", str(crashing))
    assert run(EMBEDDED / "novels-6m", tmp_path / "out") == 2
    assert "was terminated by SIGSEGV: GGML_ASSERT" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tokenizer_that_its_own_library_does_not_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    change_json(source / "tokenizer.json", decoder={"type": "Nope"})
    assert run(source, tmp_path / "out") == 2
    assert "tokenizers library cannot read the checkpoint's tokenizer: " in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", {"<|turn|>": 258}),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"258": {"content": "<|turn|>", "special": True}}},
        ),
    ],
)
def test_added_tokens_of_other_files_are_compared_too(
    tmp_path: Path, file: str, content: dict[str, Any]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    path = source / file
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **content}))
    assert run(source, tmp_path / "out") == 0
    tokens = (
        GGUFReader(tmp_path / "out" / "source-Q8_0.gguf").fields["tokenizer.ggml.tokens"].contents()
    )
    assert tokens[258] == "<|turn|>"


def test_flags_go_before_the_template(tmp_path: Path) -> None:
    """tokenizer_config.json asks for a token that tokenizer.json's post-processor does
    not add; its reader adds it.
    """
    source = write_checkpoint(tmp_path / "source", Shape())
    change_json(source / "tokenizer_config.json", add_eos_token=True)
    assert run(source, tmp_path / "out") == 0
    fields = GGUFReader(tmp_path / "out" / "source-Q8_0.gguf").fields
    assert fields["tokenizer.ggml.add_eos_token"].contents() is True


def test_every_added_token_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that takes the space after it along, which llama.cpp cannot: only a text with
    this very token shows it, where it is not known beforehand.
    """
    source = write_checkpoint(tmp_path / "source", Shape())
    added = json.loads((source / "tokenizer.json").read_text())["added_tokens"]
    change_json(source / "tokenizer.json", added_tokens=[{**added[0], "rstrip": True}])
    monkeypatch.setattr(vocab.Vocabulary, "misplaced", ())
    assert run(source, tmp_path / "out") == 2
    assert "for the text 'one <|end|> two<|end|>three'" in capsys.readouterr().err


def test_words_are_distinguished_from_their_continuations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "bert"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "t", "##h", "##e", "h", "e", "."]
    write_checkpoint(source, Shape(vocab=len(words)))
    (source / "tokenizer.json").unlink()
    (source / "tokenizer_config.json").write_text("{}")
    (source / "vocab.txt").write_text("\n".join(words))
    assert run(source, tmp_path / "out") == 0
    assert "note: llama.cpp splits words of any length" in capsys.readouterr().err
    monkeypatch.setattr(wordpiece, "WORD_MARK", "")
    (source / "vocab.txt").write_text("\n".join([*words[:8], ".", "a", "b"]))
    assert run(source, tmp_path / "wrong") == 2
    assert "do not tokenize" in capsys.readouterr().err


def test_what_llama_cpp_cannot_do_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    change_json(source / "tokenizer.json", normalizer={"type": "NFC"})
    assert run(source, tmp_path / "out", "--json") == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["verified"] is True
    assert [note.split(" as ")[0] for note in done["notes"]] == [
        "llama.cpp does not normalize text (NFC)"
    ]


def test_sentencepiece_alone_is_verified_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not SHARED_MODELS.is_dir():
        pytest.skip("the shared checkpoints are not beside the repository")
    source = tmp_path / "stories"
    shutil.copytree(SHARED_MODELS / "stories260K", source, copy_function=shutil.copyfile)
    source.chmod(0o755)
    (source / "tokenizer.json").unlink()
    assert run(source, tmp_path / "out") == 0
    assert "note: llama.cpp does not rewrite text" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Phi-3-mini", "mine"])
@pytest.mark.parametrize("strips", [True, False])
def test_spaces_after_special_tokens_go_by_the_name_phi3(
    tmp_path: Path, name: str, strips: bool
) -> None:
    """llama.cpp strips them for models of that name only: a file that needs it gets the
    name, and others do not.
    """
    names = ["<s>", "</s>", "<unk>", "<|endoftext|>"]
    source = write_checkpoint(tmp_path / "source", Shape(vocab=262))
    end = json.loads((source / "tokenizer.json").read_text())["added_tokens"][0]
    added = [
        {**end, "id": 258 + i, "content": text, "rstrip": strips and i == 1}
        for i, text in enumerate(names)
    ]
    change_json(source / "tokenizer.json", added_tokens=[{**end, "rstrip": strips}, *added])
    assert run(source, tmp_path / "out", "--name", name) == 0


def test_a_name_that_llama_cpp_would_not_load_is_changed_inside_the_file(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    assert run(source, tmp_path / "out", "--name", "my-Phi3") == 0
    fields = GGUFReader(tmp_path / "out" / "my-Phi3-Q8_0.gguf").fields
    assert fields["general.name"].contents() == "my-Phi 3"
