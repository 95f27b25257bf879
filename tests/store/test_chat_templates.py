"""Chat templates by name, and in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.store.chat_templates.reading import read_chat_template, template_names


def test_names_of_llama_cpp_are_known() -> None:
    names = template_names()
    assert {"chatml", "llama2", "llama3", "mistral-v3", "gemma", "phi3", "zephyr"} < {*names}
    assert {"vicuna", "deepseek", "command-r", "granite", "openchat"} < {*names}
    assert read_chat_template("Mistral") == read_chat_template("mistral-v3")
    assert "<|im_start|>" in read_chat_template("chatml")


def test_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages }} 数", encoding="utf-8")
    assert read_chat_template(str(path)) == "{{ messages }} 数"
    monkeypatch.chdir(tmp_path)
    assert read_chat_template("mine.jinja") == "{{ messages }} 数"
    path.rename(tmp_path / "mine")
    assert read_chat_template("mine") == "{{ messages }} 数"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "mine.jinja cannot be read: No such file or directory. Name a Jinja file, or one"),
        (b"", "mine.jinja is empty"),
        (b"  \n", "mine.jinja is empty"),
        (b"\xff\xfe{", "mine.jinja is not UTF-8"),
        (b"x" * (1 << 20) + b"x", "mine.jinja is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_template(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "mine.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadSettings, match=says):
        read_chat_template(str(path))


def test_an_unknown_name_names_the_known_ones() -> None:
    with pytest.raises(BadSettings, match=r"one of alpaca, .* \(got 'chatmll'\)\. Did you mean"):
        read_chat_template("chatmll")
    with pytest.raises(BadSettings, match="cannot be read: Is a directory"):
        read_chat_template("/")
