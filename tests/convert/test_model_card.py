"""What a model card says of a model's origin travels into its GGUF; a card that is
damaged or hostile does not matter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from convert.pipeline import Job, convert
from convert.source.card import read_card
from tests.convert.checkpoints import Shape, write_checkpoint

CARD = """\
---
license: other
license_name: tiny-1.0
license_link: https://example.org/licence
base_model:
- Qwen/Qwen3-0.6B-Base
- https://huggingface.co/org/other-model
- /home/me/checkpoints/last
tags: [chat, "text generation"]
pipeline_tag: text-generation
language:
- en
- no
datasets: wikitext
model-index:
- name: x
  results: [1, 2
---
# A model
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", Shape())


def general(source: Path) -> dict[str, Any]:
    job = Job(source=source, directory=source.parent, name="m", types=("F32",), num_threads=1)
    reader = GGUFReader(convert(job)[0].path)
    known = ("type", "architecture", "name", "size_label", "file_type", "quantization_version")
    return {
        key.removeprefix("general."): field.contents()
        for key, field in reader.fields.items()
        if key.startswith("general.") and key.removeprefix("general.") not in known
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_facts_of_a_card_travel(newline: str, source: Path) -> None:
    (source / "README.md").write_text("\ufeff" + CARD, newline=newline, encoding="utf-8")
    assert general(source) == {
        "license": "other",
        "license.name": "tiny-1.0",
        "license.link": "https://example.org/licence",
        "base_model.count": 2,
        "base_model.0.name": "Qwen3 0.6B Base",
        "base_model.0.organization": "Qwen",
        "base_model.0.repo_url": "https://huggingface.co/Qwen/Qwen3-0.6B-Base",
        "base_model.1.name": "Other Model",
        "base_model.1.organization": "Org",
        "base_model.1.repo_url": "https://huggingface.co/org/other-model",
        "dataset.count": 1,
        "dataset.0.name": "Wikitext",
        "tags": ["chat", "text generation", "text-generation"],
        "languages": ["en", "no"],
    }


def test_a_licence_may_be_a_list(source: Path) -> None:
    (source / "README.md").write_text("---\nlicense: [mit, apache-2.0]\n---\n")
    assert general(source) == {"license": "mit,apache-2.0"}


BOMB = "license: mit\ntags:\n- &a [x, x]\n" + "".join(
    f"- &{name} [*{before}, *{before}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "card",
    [
        "no front matter\nlicense: mit\n",
        "---\nlicense: mit\n",  # without an end
        "---\n- license\n---\n",
        "---\nlicense: {a: b}\n---\n",
        "---\nlicense: [[[\n---\n",
        "---\nlicense: !!python/object/apply:os.system {ls: x}\n---\n",
        f"---\nlicense: {'[' * 5000}\n---\n",
        f"---\nlicense: {'x' * 50000}\n---\n",
        '---\nlicense: "\\ud800"\n---\n',
        "---\nlicense: *nowhere\n---\n",
        "",
    ],
)
def test_a_card_that_says_nothing_is_as_none(card: str, source: Path) -> None:
    (source / "README.md").write_text(card)
    assert general(source) == {}


def test_an_error_in_one_place_costs_only_that(source: Path) -> None:
    (source / "README.md").write_text("---\nlicense: mit\nlanguage: [en\ntags: *x\n---\n")
    assert general(source) == {"license": "mit"}


def test_aliases_do_not_multiply(source: Path) -> None:
    (source / "README.md").write_text(f"---\n{BOMB}---\n")
    assert general(source) == {"license": "mit"}


def test_a_card_that_cannot_be_read_is_as_none(source: Path) -> None:
    (source / "README.md").symlink_to("nowhere")
    assert read_card(source).text == ""
    (source / "README.md").unlink()
    (source / "README.md").mkdir()
    assert read_card(source).text == ""
    (source / "README.md").rmdir()
    (source / "README.md").write_bytes(b"\xff\xfe---")
    assert general(source) == {}
