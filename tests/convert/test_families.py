"""Every family's tiny golden checkpoint, converted and run by llama.cpp, says what
transformers says.

The checkpoints and what transformers computed with them are made by golden/make.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray

from convert.architectures import find_family
from convert.config import Config
from convert.errors import BadInput, UnsupportedModel
from convert.pipeline import Job, convert
from convert.safetensors_file import SafetensorsFile
from convert.tensors import Stacked
from tests.convert import llama_tools
from tests.convert.checkpoints import (
    GOLDEN,
    GOLDEN_NAMES,
    change_config,
    golden_checkpoint,
    read_safetensors,
    rename_tensors,
    write_safetensors,
)

MAX_DIFFERENCE = 1e-3  # of log-probabilities
DECODERS = [name for name in GOLDEN_NAMES if name != "bert"]


def convert_to_f32(source: Path, out: Path) -> Path:
    return convert(Job(source=source, directory=out, name="model", types=("F32",), num_threads=1))[
        0
    ].path


def reference(name: str) -> dict[str, NDArray[Any]]:
    return dict(np.load(GOLDEN / name / "reference.npz"))


def contents(path: Path) -> dict[str, bytes]:
    return {tensor.name: tensor.data.tobytes() for tensor in GGUFReader(path).tensors}


def field(path: Path, key: str) -> Any:
    return GGUFReader(path).fields[key].contents()


@pytest.mark.parametrize("name", DECODERS)
def test_log_probs_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = convert_to_f32(golden_checkpoint(name, tmp_path / name), tmp_path)
    expected = reference(name)["log_probs"]
    actual = llama_tools.log_probs(model, reference(name)["tokens"])
    assert np.abs(actual - expected).max() < MAX_DIFFERENCE
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize(("pooling", "of"), [("MEAN", "mean"), ("CLS", "cls")])
def test_embeddings_are_those_of_transformers(pooling: str, of: str, tmp_path: Path) -> None:
    model = convert_to_f32(golden_checkpoint("bert", tmp_path / "bert"), tmp_path)
    expected = reference("bert")[of]
    actual = llama_tools.embedding(model, reference("bert")["tokens"], pooling)
    cosine = np.dot(actual, expected) / np.linalg.norm(actual) / np.linalg.norm(expected)
    assert 1 - cosine < 1e-6
    np.testing.assert_allclose(actual, expected, atol=5e-3)


def without_scaling(config: dict[str, Any]) -> None:
    config["rope_scaling"] = None


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "llama3 scaling": ("llama3", lambda config: config["rope_parameters"].update(factor=4.0)),
    "linear scaling": ("smollm2", without_scaling),
    "yarn": ("qwen2", without_scaling),
    "attention factor of yarn": (
        "qwen3",
        lambda config: config["rope_parameters"].pop("attention_factor"),
    ),
    "longrope": ("phi3", without_scaling),
    "base of the rotation": (
        "phi4_mini",
        lambda config: config["rope_parameters"].update(rope_theta=9000.0),
    ),
    "window": ("gemma2", lambda config: config.update(sliding_window=40)),
    "which layers slide": ("gemma3", lambda config: config["layer_types"].reverse()),
    "rotation of sliding layers": (
        "gemma3",
        lambda config: config["rope_parameters"]["sliding_attention"].update(rope_theta=600.0),
    ),
    "cap of attention": ("gemma2", lambda config: config.update(attn_logit_softcapping=6.0)),
    "cap of logits": ("gemma2", lambda config: config.update(final_logit_softcapping=9.0)),
    "experts per token": ("mixtral", lambda config: config.update(num_experts_per_tok=3)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_would_show(fault: str, tmp_path: Path) -> None:
    """The golden checkpoints are sharp: a slightly wrong setting differs by far more
    than the bound.
    """
    name, spoil = FAULTS[fault]
    source = golden_checkpoint(name, tmp_path / name)
    change_config(source, spoil)
    log_probs = llama_tools.log_probs(convert_to_f32(source, tmp_path), reference(name)["tokens"])
    assert np.abs(log_probs - reference(name)["log_probs"]).max() > 10 * MAX_DIFFERENCE


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("llama2", {"rope_scaling": {"type": "longrope"}}, "rope scaling 'longrope'"),
        ("llama2", {"hidden_act": "relu"}, "hidden_act = relu"),
        ("llama2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ("llama2", {"num_hidden_layers": 513}, "at most 512 layers"),
        ("llama2", {"max_position_embeddings": 1 << 40}, "max_position_embeddings = 1099511627776"),
        ("qwen2", {"head_dim": 32}, "4 heads of size 32"),
        (
            "qwen2",
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 16}},
            "beta_fast = 32, not 16",
        ),
        ("qwen3", {"attention_bias": True}, "attention_bias = True"),
        ("qwen2_moe", {"norm_topk_prob": True}, "norm_topk_prob = True"),
        ("qwen3_moe", {"norm_topk_prob": None}, "norm_topk_prob = null"),
        ("qwen3_moe", {"mlp_only_layers": [0]}, r"mlp_only_layers = \[0\]"),
        ("smollm3", {"no_rope_layers": [1, 1, 0, 1, 1]}, "no_rope_layers"),
        ("gemma", {"tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ("gemma2", {"query_pre_attn_scalar": 144}, "query_pre_attn_scalar = 144"),
        ("gemma2", {"attn_logit_softcapping": None}, "no attn_logit_softcapping"),
        ("gemma2", {"layer_types": ["full_attention"] * 4}, "no layer with a sliding window"),
        ("gemma3", {"sliding_window": None}, "no sliding_window"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
        ("gemma3", {"layer_types": ["chunked_attention"] * 4}, "chunked_attention"),
        (
            "phi3",
            {"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}},
            "long_factor",
        ),
        (
            "phi4_mini",
            {"rope_parameters": {"partial_rotary_factor": 0.1}},
            r"3 of \d+ dimensions cannot be rotated in pairs",
        ),
        ("bert", {"hidden_act": "relu"}, "hidden_act = relu"),
        (
            "bert",
            {"position_embedding_type": "relative_key"},
            "position_embedding_type = relative_key",
        ),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(
    name: str, change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source = golden_checkpoint(name, tmp_path / name)
    change_config(source, lambda config: config.update(change))
    with pytest.raises(BadInput, match=reason):
        convert_to_f32(source, tmp_path)


@pytest.mark.parametrize(("name", "architecture"), [("mistral", "llama"), ("qwen2", "qwen2")])
def test_the_context_ends_where_an_unknown_window_would_begin_to_slide(
    name: str, architecture: str, tmp_path: Path
) -> None:
    source = golden_checkpoint(name, tmp_path / name)
    assert (
        field(convert_to_f32(source, tmp_path / "window"), f"{architecture}.context_length") == 64
    )
    change_config(source, lambda config: config.update(sliding_window=None))
    assert field(convert_to_f32(source, tmp_path / "none"), f"{architecture}.context_length") == 512


def test_the_writing_part_of_a_model_that_sees(tmp_path: Path) -> None:
    plain = golden_checkpoint("gemma3", tmp_path / "plain")
    seeing = golden_checkpoint("gemma3", tmp_path / "seeing")

    def wrap(config: dict[str, Any]) -> None:
        text = dict(config)
        text.pop("architectures")
        config.clear()
        config.update(architectures=["Gemma3ForConditionalGeneration"], text_config=text)

    change_config(seeing, wrap)
    rename_tensors(seeing, lambda name: f"language_model.{name}")
    tensors = read_safetensors(seeing / "model.safetensors")
    tensors["vision_tower.vision_model.head.weight"] = np.ones((2, 2), np.float32)
    write_safetensors(seeing / "model.safetensors", tensors, "BF16")
    assert contents(convert_to_f32(seeing, tmp_path / "a")) == contents(
        convert_to_f32(plain, tmp_path / "b")
    )


@pytest.mark.parametrize("name", ["llama3", "qwen3_moe"])
def test_a_tied_checkpoint_may_hold_either_matrix(name: str, tmp_path: Path) -> None:
    source = golden_checkpoint(name, tmp_path / name)
    expected = contents(convert_to_f32(source, tmp_path / "embedding"))
    rename_tensors(source, lambda name: name.replace("model.embed_tokens", "lm_head"))
    assert contents(convert_to_f32(source, tmp_path / "head")) == expected


def test_a_tied_checkpoint_may_hold_the_matrix_twice_but_not_two(tmp_path: Path) -> None:
    source = golden_checkpoint("llama3", tmp_path / "llama3")
    expected = contents(convert_to_f32(source, tmp_path / "once"))
    tensors = read_safetensors(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    write_safetensors(source / "model.safetensors", tensors, "BF16")
    assert contents(convert_to_f32(source, tmp_path / "twice")) == expected
    tensors["lm_head.weight"][-1, -1] += 1
    write_safetensors(source / "model.safetensors", tensors, "BF16")
    with pytest.raises(UnsupportedModel, match="contains two that differ"):
        convert_to_f32(source, tmp_path / "two")


def test_a_bare_model_without_its_head(tmp_path: Path) -> None:
    source = golden_checkpoint("llama3", tmp_path / "llama3")
    expected = contents(convert_to_f32(source, tmp_path / "whole"))
    rename_tensors(source, lambda name: name.removeprefix("model."))
    assert contents(convert_to_f32(source, tmp_path / "bare")) == expected


def test_qwen2_moe_gets_the_output_matrix_that_llama_cpp_wants_even_if_tied(tmp_path: Path) -> None:
    source = golden_checkpoint("qwen2_moe", tmp_path / "qwen2_moe")
    change_config(source, lambda config: config.update(tie_word_embeddings=True))
    stored = read_safetensors(source / "model.safetensors")
    stored.pop("lm_head.weight")
    write_safetensors(source / "model.safetensors", stored, "BF16")
    tensors = contents(convert_to_f32(source, tmp_path))
    assert tensors["output.weight"] == tensors["token_embd.weight"]


def test_pre_training_names_and_pooling_of_bert(tmp_path: Path) -> None:
    source = golden_checkpoint("bert", tmp_path / "bert")
    expected = contents(convert_to_f32(source, tmp_path / "plain"))

    def old_name(name: str) -> str:
        for new, old in ((".weight", ".gamma"), (".bias", ".beta")):
            if "LayerNorm" in name:
                name = name.replace(new, old)
        return f"bert.{name}"

    rename_tensors(source, old_name)
    tensors: dict[str, NDArray[Any]] = dict(read_safetensors(source / "model.safetensors"))
    tensors["bert.embeddings.position_ids"] = np.arange(64)[None]
    write_safetensors(source / "model.safetensors", tensors, "BF16")
    change_config(source, lambda config: config.update(architectures=["BertForMaskedLM"]))
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    model = convert_to_f32(source, tmp_path / "old")
    assert contents(model) == expected
    embedding = llama_tools.embedding(model, reference("bert")["tokens"])
    np.testing.assert_allclose(embedding, reference("bert")["cls"], atol=5e-3)


def test_experts_of_different_types_are_refused(tmp_path: Path) -> None:
    source = golden_checkpoint("mixtral", tmp_path / "mixtral")
    tensors = read_safetensors(source / "model.safetensors")
    name = "model.layers.0.block_sparse_moe.experts.3.w2.weight"
    write_safetensors(source / "model-00001-of-00002.safetensors", {name: tensors.pop(name)}, "F32")
    write_safetensors(source / "model-00002-of-00002.safetensors", tensors, "BF16")
    (source / "model.safetensors").unlink()
    places = {
        **dict.fromkeys(tensors, "model-00002-of-00002.safetensors"),
        name: "model-00001-of-00002.safetensors",
    }
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(UnsupportedModel, match="different types"):
        convert_to_f32(source, tmp_path)


def test_published_configs_of_gemma3_leave_out_what_transformers_takes_for_granted() -> None:
    """google/gemma-3-4b-it's config.json, what concerns us of it."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = Config(
        "config.json", {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    )
    hyper = find_family(config).read_config(config, frozenset({"model.embed_tokens.weight"}))
    assert (hyper.num_layers, hyper.num_heads, hyper.num_kv_heads, hyper.head_dim) == (
        34,
        8,
        4,
        256,
    )
    assert hyper.sizes["vocab"] == 262208
    values = {field.key: field.value for field in hyper.fields}
    assert values["gemma3.context_length"] == 131072
    assert (values["gemma3.rope.freq_base"], values["gemma3.rope.freq_base_swa"]) == (1e6, 1e4)
    assert (values["gemma3.rope.scaling.type"], values["gemma3.rope.scaling.factor"]) == (
        "linear",
        8.0,
    )
    assert values["gemma3.attention.sliding_window"] == 1024
    # every sixth layer sees all, as llama.cpp has it
    assert "gemma3.attention.sliding_window_pattern" not in values


def test_experts_are_read_across_their_borders(tmp_path: Path) -> None:
    matrices = {
        str(i): np.full((3, 2), i, np.float32) + np.arange(3, dtype=np.float32)[:, None] / 4
        for i in range(4)
    }
    write_safetensors(tmp_path / "experts", matrices, "F32")
    file = SafetensorsFile(tmp_path / "experts")
    stacked = Stacked(tuple(file.tensors[name] for name in matrices))
    whole = np.concatenate(list(matrices.values()))
    for start, stop in ((0, 12), (1, 3), (2, 4), (5, 11), (3, 6)):
        np.testing.assert_array_equal(stacked.read_rows(start, stop), whole[start:stop])
    file.close()
