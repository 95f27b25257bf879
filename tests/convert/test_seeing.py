"""Models that see or hear: what is converted is the text model inside.

How transformers saves them, and that it computes with them what it computes with the text
model alone, was written down by golden/make_wrapped.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.architectures import FAMILIES, find_family
from convert.architectures.seeing import NOTE, WRAPPERS
from convert.architectures.table import supported_table
from convert.config import Config
from convert.errors import UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert.checkpoints import GOLDEN, change_config, golden_checkpoint

WRAPPED = sorted(path.stem for path in GOLDEN.glob("wrapped/*.json"))
NAMES = frozenset({"model.embed_tokens.weight"})
Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]  # type, shape, content


def read(path: Path) -> Tensors:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {
        name: (
            entry["dtype"],
            tuple(entry["shape"]),
            data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
        )
        for name, entry in header.items()
    }


def write(path: Path, tensors: Tensors) -> None:
    header, offset = {}, 0
    for name, (dtype, shape, content) in tensors.items():
        end = offset + len(content)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    contents = b"".join(content for _, _, content in tensors.values())
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + contents)


def turned_experts(name: str, block: str, own: Tensors) -> tuple[str, tuple[int, ...], bytes]:
    """Qwen3-VL's experts in one tensor, on their side."""
    parts = ("gate_proj", "up_proj") if name.endswith("gate_up_proj") else ("down_proj",)
    experts = sum(key.startswith(block) for key in own) // 3
    kinds, stacked = set(), []
    for expert in range(experts):
        matrices = []
        for part in parts:
            dtype, shape, content = own[f"{block}.{expert}.{part}.weight"]
            matrices.append(np.frombuffer(content, "<u2").reshape(shape).T)
            kinds.add(dtype)
        stacked.append(np.concatenate(matrices, axis=1))
    (kind,), whole = kinds, np.stack(stacked)
    return kind, whole.shape, whole.tobytes()


def wrap(source: Path, record: dict[str, Any]) -> None:
    """Makes of a text model's checkpoint that of the whole."""
    own = read(source / "model.safetensors")
    tensors: Tensors = {}
    for name, origin in record["tensors"].items():
        if origin is None:
            tensors[name] = ("F32", (1,), b"\0" * 4)  # nobody reads it
        elif origin.endswith(".experts"):
            tensors[name] = turned_experts(name, origin, own)
        else:
            tensors[name] = own[origin]
    write(source / "model.safetensors", tensors)
    (source / "config.json").write_text(json.dumps(record["config"]))


def content(source: Path) -> bytes:
    job = Job(
        source=source, directory=source.parent / "out", name="m", types=("F32",), num_threads=1
    )
    return convert(job)[0].path.read_bytes()


@pytest.mark.parametrize("name", WRAPPED)
def test_the_part_that_writes_is_converted_as_the_text_model(name: str, tmp_path: Path) -> None:
    record = json.loads((GOLDEN / "wrapped" / f"{name}.json").read_text())
    plain = golden_checkpoint(record["text"], tmp_path / "plain")
    whole = golden_checkpoint(record["text"], tmp_path / "whole")
    change_config(plain, lambda config: config.update(record["changes"]))
    weights = plain / "model.safetensors"
    without = record["without"]
    write(
        weights,
        {
            name: tensor
            for name, tensor in read(weights).items()
            if not any(part in name for part in without)
        },
    )
    wrap(whole, record)
    assert content(whole) == content(plain)
    assert record["difference"] < 1e-4


def whole_of(architecture: str, text: dict[str, Any], **others: Any) -> Config:
    return Config("config.json", {"architectures": [architecture], "text_config": text, **others})


def values(config: Config) -> dict[str, Any]:
    hyper = find_family(config).read_config(config, NAMES)
    return {"vocab": hyper.sizes["vocab"]} | {field.key: field.value for field in hyper.fields}


def test_what_a_text_config_leaves_out_is_what_transformers_takes() -> None:
    """llava-hf/llava-1.5-7b-hf and mistral-community/pixtral-12b, what concerns us of them."""
    llava = values(
        whole_of(
            "LlavaForConditionalGeneration",
            {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064},
        )
    )
    assert (llava["vocab"], llava["llama.context_length"]) == (32064, 4096)
    assert (llava["llama.block_count"], llava["llama.feed_forward_length"]) == (32, 11008)
    assert llava["llama.attention.head_count_kv"] == 32
    pixtral = values(
        whole_of(
            "LlavaForConditionalGeneration",
            {
                "model_type": "mistral",
                "hidden_size": 5120,
                "head_dim": 128,
                "num_hidden_layers": 40,
                "max_position_embeddings": 1024000,
                "rms_norm_eps": 1e-5,
                "rope_theta": 1000000000.0,
                "sliding_window": None,
                "vocab_size": 131072,
            },
        )
    )
    assert pixtral["llama.embedding_length"] == 5120
    assert (pixtral["llama.attention.head_count"], pixtral["llama.attention.head_count_kv"]) == (
        32,
        8,
    )
    assert pixtral["llama.context_length"] == 1024000


def test_a_config_before_text_config_was_there() -> None:
    """Qwen/Qwen2.5-VL-3B-Instruct: all in one object, positions of several axes."""
    flat = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "max_position_embeddings": 128000,
        "max_window_layers": 70,
        "num_attention_heads": 16,
        "num_hidden_layers": 36,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
        "vision_config": {"hidden_size": 1280, "model_type": "qwen2_5_vl"},
    }
    found = values(Config("config.json", flat))
    assert found["qwen2.context_length"] == 128000
    assert found["qwen2.rope.freq_base"] == 1e6
    assert "qwen2.rope.scaling.type" not in found
    found = values(Config("config.json", {**flat, "architectures": None}))  # by its model_type
    assert found["qwen2.block_count"] == 36


def test_the_text_model_of_kimi_vl() -> None:
    """moonshotai/Kimi-VL-A3B-Instruct, of which transformers has no class."""
    text = {
        "model_type": "deepseek_v3",
        "first_k_dense_replace": 1,
        "hidden_size": 2048,
        "intermediate_size": 11264,
        "kv_lora_rank": 512,
        "max_position_embeddings": 131072,
        "moe_intermediate_size": 1408,
        "n_group": 1,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "norm_topk_prob": True,
        "num_attention_heads": 16,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 27,
        "num_key_value_heads": 16,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 800000.0,
        "routed_scaling_factor": 2.446,
        "topk_group": 1,
        "v_head_dim": 128,
        "vocab_size": 163840,
    }
    found = values(whole_of("KimiVLForConditionalGeneration", text))
    assert (found["deepseek2.expert_count"], found["deepseek2.expert_used_count"]) == (64, 6)


@pytest.mark.parametrize(
    ("outer", "inner", "tied"),
    [
        (True, None, True),
        (None, True, True),
        (None, False, False),
        (False, False, False),
        (True, False, True),  # they disagree: by what is there, here no head
        (None, None, False),  # what the class of the text model takes
    ],
)
def test_whether_the_embedding_is_the_output(
    outer: bool | None, inner: bool | None, tied: bool
) -> None:
    text = {"model_type": "llama", "tie_word_embeddings": inner}
    config = whole_of("LlavaForConditionalGeneration", text, tie_word_embeddings=outer)
    features = find_family(config).read_config(config, NAMES).features
    assert ("shared output" in features) is tied


@pytest.mark.parametrize(
    ("architecture", "sections", "before"),
    [
        ("LlavaForConditionalGeneration", ["text_config"], "language_model."),
        ("LlavaForConditionalGeneration", ["text_config"], "model.language_model."),
        ("Idefics3ForConditionalGeneration", ["text_config"], "model.text_model."),
        ("InternVLChatModel", ["llm_config"], "language_model."),
        ("Qwen2_5OmniModel", ["thinker_config", "text_config"], "thinker."),
    ],
)
def test_the_names_that_releases_give_to_the_text_model(
    architecture: str, sections: list[str], before: str, tmp_path: Path
) -> None:
    plain = golden_checkpoint("llama3", tmp_path / "plain")
    whole = golden_checkpoint("llama3", tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    inner: dict[str, Any] = {**config, "architectures": ["SomethingElse"]}
    for section in reversed(sections):
        inner = {section: inner}
    (whole / "config.json").write_text(json.dumps({"architectures": [architecture], **inner}))
    is_inside = before.startswith("model.")
    tensors = {
        (before + name.removeprefix("model.") if is_inside else before + name): tensor
        for name, tensor in read(whole / "model.safetensors").items()
    }
    seen = {"mlp1.0.weight", "thinker.visual.blocks.0.norm1.weight", "model.connector.proj.weight"}
    write(whole / "model.safetensors", {**tensors, **dict.fromkeys(seen, ("F32", (1,), b"\0" * 4))})
    assert content(whole) == content(plain)


def test_a_text_model_that_is_not_known_is_named() -> None:
    config = whole_of("LlavaForConditionalGeneration", {"model_type": "opt"})
    with pytest.raises(UnsupportedModel, match="a text model of the type opt"):
        find_family(config)


def test_a_note_says_that_only_the_part_that_writes_is_there() -> None:
    config = whole_of("LlavaForConditionalGeneration", {"model_type": "llama"})
    assert NOTE in find_family(config).read_config(config, NAMES).notes


def test_every_wrapper_is_in_the_table_and_holds_a_known_text_model() -> None:
    model_types = {name for family in FAMILIES for name in family.model_types}
    architectures = [name for wrapper in WRAPPERS for name in wrapper.architectures]
    assert len(architectures) == len(set(architectures))
    assert not {name for family in FAMILIES for name in family.architectures} & set(architectures)
    for wrapper in WRAPPERS:
        assert wrapper.usual in model_types
        assert f"| {wrapper.models} |" in supported_table()
