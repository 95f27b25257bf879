"""Which files of a repository are a model, and which of them a name means."""

from __future__ import annotations

import pytest

from appliance.store.hub import HubFile, Repository
from appliance.store.hub_contents import find_gguf_files
from appliance.store.hub_id import HubId, matching, parse_hub_id


def test_what_of_a_repository_is_a_model() -> None:
    names = ["a-Q8_0.gguf", "q2/a-Q2_K.gguf", "mmproj-F16.gguf", "b-00001-of-00002.gguf", "x.py"]
    found = find_gguf_files(
        Repository("org/a", "0" * 40, tuple(HubFile(name, 1, None, "0" * 40) for name in names))
    )

    assert [file.name for file in found.whole] == ["a-Q8_0.gguf", "q2/a-Q2_K.gguf"]
    assert [file.name for file in found.parts] == ["b-00001-of-00002.gguf"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("org/repo", HubId("org/repo")),
        ("org/Qwen2.5-0.5B:UD-Q4_K_XL", HubId("org/Qwen2.5-0.5B", "UD-Q4_K_XL")),
        ("repo", None),
        ("a/b/c", None),
        ("./repo", None),
        ("../repo", None),
        ("org/model.gguf", None),
        ("org/repo:", None),
        ("https://huggingface.co/org", None),
    ],
)
def test_what_is_a_repository(text: str, meant: HubId | None) -> None:
    assert parse_hub_id(text) == meant


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ("q4_k_m", ["a-Q4_K_M.gguf", "a-UD-Q4_K_M.gguf"]),
        ("UD-Q4_K_M", ["a-UD-Q4_K_M.gguf"]),
        ("Q2_K", ["a-Q2_K.gguf"]),
        ("Q8_0", ["plain.gguf"]),  # by its type: no name says so
        ("0", []),
    ],
)
def test_which_files_a_choice_means(choice: str, meant: list[str]) -> None:
    types = {
        "a-Q4_K_M.gguf": "Q4_K_M",
        "a-UD-Q4_K_M.gguf": "Q4_K_M",
        "a-Q2_K.gguf": "Q2_K",
        "a-IQ2_K.gguf": None,
    }

    assert matching(choice, {**types, "plain.gguf": "Q8_0"}) == meant
