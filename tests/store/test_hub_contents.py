"""Which files of a repository are a model, and which of them a name means."""

from __future__ import annotations

import pytest

from appliance.errors import BadModelFile
from appliance.store.hub.records import HubFile, Repository
from appliance.store.hub_contents import find_descriptions, find_gguf_files, find_weights
from appliance.store.hub_id import HubId, matching, parse_hub_id


def test_what_of_a_repository_is_a_model() -> None:
    names = ["a-Q8_0.gguf", "q2/a-Q2_K.gguf", "mmproj-F16.gguf", "b-00001-of-00002.gguf", "x.py"]
    parts = ["q4/c-00002-of-00002.gguf", "q4/c-00001-of-00002.gguf", "d-00001-of-00001.gguf"]
    found = find_gguf_files(repository(*names, *parts))

    assert {model.name: [file.name for file in model.files] for model in found.models} == {
        "a-Q8_0.gguf": ["a-Q8_0.gguf"],
        "q2/a-Q2_K.gguf": ["q2/a-Q2_K.gguf"],
        "q4/c.gguf": ["q4/c-00001-of-00002.gguf", "q4/c-00002-of-00002.gguf"],
        "d-00001-of-00001.gguf": ["d-00001-of-00001.gguf"],
    }
    assert found.missing == ("b-00002-of-00002.gguf",)


def repository(*names: str) -> Repository:
    files = tuple(HubFile(name, 1, None, "0" * 40) for name in names)
    return Repository("org/a", "0" * 40, files)


@pytest.mark.parametrize(
    ("weights", "meant"),
    [
        (["model.safetensors", "model-00001-of-00002.safetensors"], ["model.safetensors"]),
        (["llama.safetensors", "consolidated.safetensors"], ["llama.safetensors"]),
        (["m-00001-of-00001.safetensors"], ["m-00001-of-00001.safetensors"]),
        (["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"], None),
        (["m-00001-of-00002.safetensors"], ["m-00001-of-00002.safetensors"]),
        (["m-00001-of-00003.safetensors", "m-00002-of-00003.safetensors"], []),
        (["a.safetensors", "b.safetensors"], []),
        (["text/model.safetensors"], []),
        (["adapter_model.safetensors"], []),
    ],
)
def test_weights_without_an_index(weights: list[str], meant: list[str] | None) -> None:
    meant = weights if meant is None else meant
    there = repository("config.json", *weights)
    if meant:
        assert [file.name for file in find_descriptions(there)] == ["config.json"]
        assert [file.name for file in find_weights(there, None)] == meant
    else:
        with pytest.raises(BadModelFile, match="neither GGUF files nor a checkpoint"):
            find_descriptions(there)


def test_what_is_fetched_beside_the_weights() -> None:
    wanted = [
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "vocab.json",
        "merges.txt",
        "modules.json",
        "hf_quant_config.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "additional_chat_templates/rerank.jinja",
    ]
    others = ["train.py", "pytorch_model.bin", "2_Dense/pytorch_model.bin", "onnx/config.json"]
    there = repository(*wanted, *others, "model.safetensors")
    assert [file.name for file in find_descriptions(there)] == wanted


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("org/repo", HubId("org/repo")),
        ("org/repo@v1.0", HubId("org/repo", revision="v1.0")),
        ("hf.co/org/repo@main:Q8_0", HubId("org/repo", "Q8_0", "main")),
        ("org/Qwen2.5-0.5B:UD-Q4_K_XL", HubId("org/Qwen2.5-0.5B", "UD-Q4_K_XL")),
        ("repo", None),
        ("a/b/c", None),
        ("./repo", None),
        ("../repo", None),
        ("org/model.gguf", None),
        ("org/repo:", None),
        ("https://huggingface.co/org/repo", HubId("org/repo")),
        ("https://huggingface.co/org/repo/tree/main", HubId("org/repo")),
        ("hf.co/org/repo:Q4_K_M", HubId("org/repo", "Q4_K_M")),
        ("https://huggingface.co/org/repo/blob/main/a.gguf", None),
        ("models--org--Name-1.5B", HubId("org/Name-1.5B")),
        ("models--gpt2", None),
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
