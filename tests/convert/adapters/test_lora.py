"""An adapter applied by llama.cpp says what the weights say that it was merged into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from convert.__main__ import main
from convert.checkpoint import Checkpoint
from convert.errors import BadInput
from convert.pipeline import Job, ScaledAdapter, convert
from convert.safetensors_file import StoredType, as_stored
from convert.safetensors_file import to_float32 as as_float32_of
from tests.convert import llama_tools
from tests.convert.checkpoints import (
    GOLDEN_NAMES,
    Shape,
    golden_checkpoint,
    read_safetensors,
    write_checkpoint,
    write_safetensors,
)
from tests.convert.peft_adapters import adapted_weights, as_float32, write_adapter

TOKENS = list(range(3, 40))
FAMILIES = [name for name in GOLDEN_NAMES if name not in ("bert", "llama2")]  # of BF16 weights


def convert_adapter(folder: Path, base: Path, out: Path) -> Path:
    arguments = [str(folder), "--base", str(base), "--out", str(out), "--json"]
    assert main(["--lora", *arguments]) == 0
    return out / f"{folder.name}.gguf"


def converted(source: Path, out: Path, adapter: ScaledAdapter | None = None) -> Path:
    job = Job(
        source=source, directory=out, name="m", types=("F32",), num_threads=1, adapter=adapter
    )
    return convert(job)[0].path


@pytest.mark.parametrize("name", FAMILIES)
def test_adapter_and_merged_weights_say_the_same(name: str, tmp_path: Path) -> None:
    source = golden_checkpoint(name, tmp_path / name)
    tensors = as_float32(source)
    weights = adapted_weights(tensors)
    write_adapter(tmp_path / "lora", tensors, weights)
    adapter = convert_adapter(tmp_path / "lora", source, tmp_path / "adapters")
    plain = converted(source, tmp_path / "plain")
    for scale in (1.0, 0.5):
        merged = converted(
            source, tmp_path / f"merged{scale}", ScaledAdapter(tmp_path / "lora", scale)
        )
        expected = llama_tools.log_probs(merged, TOKENS)
        actual = llama_tools.log_probs(plain, TOKENS, {adapter: scale})
        assert np.abs(actual - expected).max() < 2e-3
    assert np.abs(llama_tools.log_probs(plain, TOKENS) - expected).max() > 0.1


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 3, r"layers\.0\.mlp\..*": 12}},
        {"rank_pattern": {"self_attn.k_proj": 8}, "alpha_pattern": {"k_proj": 5.5}},
        {"rank_pattern": {"self_attn.k_proj": 8}, "use_rslora": True},
    ],
)
@pytest.mark.parametrize("stored_type", ["F32", "BF16"])
def test_each_module_has_its_rank_and_scale(
    settings: dict[str, Any], stored_type: str, tmp_path: Path
) -> None:
    source = golden_checkpoint("llama3", tmp_path / "llama3")
    tensors = as_float32(source)
    has_own_rank = "rank_pattern" in settings
    write_adapter(
        tmp_path / "lora",
        tensors,
        adapted_weights(tensors),
        rank=lambda weight: 8 if has_own_rank and "k_proj" in weight else 4,
        stored_type=stored_type,
        **settings,
    )
    adapter = convert_adapter(tmp_path / "lora", source, tmp_path)
    merged = converted(source, tmp_path / "merged", ScaledAdapter(tmp_path / "lora", 1.0))
    expected = llama_tools.log_probs(merged, TOKENS)
    actual = llama_tools.log_probs(converted(source, tmp_path), TOKENS, {adapter: 1.0})
    assert np.abs(actual - expected).max() < 2e-3


def untied_checkpoint(directory: Path) -> Path:
    return write_checkpoint(directory, Shape(tied=False, num_layers=2, stored_type="F32"))


def untied_tensors(directory: Path) -> dict[str, Any]:
    bf16 = write_checkpoint(directory, Shape(tied=False, num_layers=2))
    return read_safetensors(bf16 / "model.safetensors")


def test_embedding_and_head_are_adapted(tmp_path: Path) -> None:
    tensors, source = untied_tensors(tmp_path / "bf16"), untied_checkpoint(tmp_path / "base")
    write_adapter(tmp_path / "lora", tensors, ["model.embed_tokens.weight", "lm_head.weight"])
    adapter = convert_adapter(tmp_path / "lora", source, tmp_path)
    merged = converted(source, tmp_path / "merged", ScaledAdapter(tmp_path / "lora", 1.0))
    plain = converted(source, tmp_path / "plain")
    expected = llama_tools.log_probs(merged, TOKENS)
    assert np.abs(llama_tools.log_probs(plain, TOKENS, {adapter: 1.0}) - expected).max() < 1e-3
    assert np.abs(llama_tools.log_probs(plain, TOKENS) - expected).max() > 0.05


def test_merged_weights_are_rounded_as_peft_rounds_them(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "base", Shape(stored_type="BF16"))
    base = read_safetensors(source / "model.safetensors")
    weight = "model.layers.0.mlp.down_proj.weight"
    lora = write_adapter(tmp_path / "lora", base, [weight])
    a, b = lora.values()
    arguments = [str(source), "--out", str(tmp_path), "--types", "BF16", "--name", "m", "--json"]
    assert main([*arguments, "--merge-lora", f"{tmp_path / 'lora'}:0.5"]) == 0
    [tensor] = [
        t for t in GGUFReader(tmp_path / "m-BF16.gguf").tensors if t.name == "blk.0.ffn_down.weight"
    ]
    bits = np.array(tensor.data).view("<u2").reshape(base[weight].shape).astype(np.uint32)
    # to nearest, ties to even: float64 is exact enough to say which that is
    wanted = base[weight] + (b @ a) * np.float32(6 / 4 * 0.5)
    below = (wanted.view(np.uint32) & 0xFFFF0000).view(np.float32)
    above = ((wanted.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32)
    nearest = np.where(np.abs(wanted - below) <= np.abs(above - wanted), below, above)
    assert ((bits << 16).view(np.float32) == nearest).all()


def rounded_to_bf16(values: Any) -> Any:
    return as_float32_of(as_stored(np.ascontiguousarray(values), StoredType.BF16), StoredType.BF16)


def test_an_embedding_is_rounded_twice_and_may_be_saved_beside_its_adapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As PEFT merges it: what it adds, and the sum; and as it saves it, with the whole
    embedding, which is only good while it is the model's own.
    """
    source = write_checkpoint(tmp_path / "base", Shape(tied=False))
    base = read_safetensors(source / "model.safetensors")
    weight = "model.embed_tokens.weight"
    lora = write_adapter(tmp_path / "lora", base, [weight])
    a, b = lora.values()
    saved = f"base_model.model.{weight.replace('.weight', '.base_layer.weight')}"
    write_safetensors(
        tmp_path / "lora" / "adapter_model.safetensors", {**lora, saved: base[weight]}, "F32"
    )
    arguments = [str(source), "--out", str(tmp_path), "--types", "BF16", "--name", "m", "--json"]
    merging = ["--merge-lora", str(tmp_path / "lora")]
    assert main([*arguments, *merging]) == 0
    [tensor] = [
        t for t in GGUFReader(tmp_path / "m-BF16.gguf").tensors if t.name == "token_embd.weight"
    ]
    bits = np.array(tensor.data).view("<u2").reshape(base[weight].shape).astype(np.uint32)
    added = rounded_to_bf16((b @ a).T * np.float32(6 / 4))
    assert ((bits << 16).view(np.float32) == rounded_to_bf16(base[weight] + added)).all()

    trained = base[weight] + np.float32(1)
    write_safetensors(
        tmp_path / "lora" / "adapter_model.safetensors", {**lora, saved: trained}, "F32"
    )
    assert main([*arguments, *merging]) == 2
    assert f"{saved}, which is no part of a plain LoRA adapter" in capsys.readouterr().err
    lora_only = [str(tmp_path / "lora"), "--base", str(source), "--out", str(tmp_path / "out")]
    assert main(["lora", *lora_only]) == 2
    assert "not the base model's own" in capsys.readouterr().err


def test_weights_on_their_side_take_the_product_turned(tmp_path: Path) -> None:
    """GPT-2's Conv1D: PEFT adds (B A) transposed; what says so is the model, for PEFT leaves
    `fan_in_fan_out` as the last module that it adapted has it.
    """
    source = golden_checkpoint("gpt2", tmp_path / "gpt2")
    base = as_float32(source)
    across = [name for name in base if name.endswith(("c_attn.weight", "c_proj.weight"))]
    turned = {name: base[name].T for name in across}
    lora = write_adapter(tmp_path / "lora", turned, across, fan_in_fan_out=True)
    adapter = convert_adapter(tmp_path / "lora", source, tmp_path)
    merged = converted(source, tmp_path / "merged", ScaledAdapter(tmp_path / "lora", 1.0))
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(merged).tensors}
    (name,) = (name for name in across if name.endswith("h.1.attn.c_proj.weight"))
    module = f"base_model.model.{name.removesuffix('.weight')}"
    a, b = (lora[f"{module}.lora_{half}.weight"] for half in "AB")
    weight = base[name] + (b @ a).T * np.float32(6 / 4)
    np.testing.assert_allclose(tensors["blk.1.attn_output.weight"], weight.T, atol=1e-6)
    expected = llama_tools.log_probs(merged, TOKENS)
    plain = converted(source, tmp_path / "plain")
    assert np.abs(llama_tools.log_probs(plain, TOKENS, {adapter: 1.0}) - expected).max() < 2e-3
    assert np.abs(llama_tools.log_probs(plain, TOKENS) - expected).max() > 0.1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, "use_dora = True: the adapter holds DoRA"),
    "another kind": ({"peft_type": "IA3"}, "of kind IA3"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "whole modules that were trained"),
    "biases": ({"bias": "all"}, "bias = all"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "a change of the model's own weights"),
    "aLoRA": ({"alora_invocation_tokens": [1, 2]}, "aLoRA"),
    "something new": ({"use_quantum": True}, "use_quantum = True"),
    "no scale": ({"lora_alpha": 0}, "has lora_alpha = 0; it must be a number above 0"),
    "no scale of one": ({"alpha_pattern": {"q_proj": 0}}, "q_proj must be above 0 (got 0.0)"),
    "another rank": ({"r": 8}, "has 4 rows, but adapter_config.json says that its rank is 8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_lora_is_refused_by_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, reason = REFUSED[name]
    source = write_checkpoint(tmp_path / "base", Shape())
    tensors = read_safetensors(source / "model.safetensors")
    write_adapter(tmp_path / "lora", tensors, adapted_weights(tensors)[:1], **settings)
    arguments = [str(tmp_path / "lora"), "--base", str(source), "--out", str(tmp_path / "out")]
    assert main(["lora", *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(BadInput):
        converted(source, tmp_path / "merged", ScaledAdapter(tmp_path / "lora", 1.0))


def test_an_adapter_of_another_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "base", Shape())
    other = read_safetensors(
        write_checkpoint(tmp_path / "other", Shape(hidden=32)) / "model.safetensors"
    )
    own = read_safetensors(source / "model.safetensors")
    cases = {
        "shape": (other, ["model.layers.0.mlp.up_proj.weight"], "but the model's is [96, 64]"),
        "name": (
            {"model.layers.7.mlp.up_proj.weight": own["model.layers.0.mlp.up_proj.weight"]},
            ["model.layers.7.mlp.up_proj.weight"],
            "which the model's GGUF has no tensor for",
        ),
        "embedding": (own, ["model.embed_tokens.weight"], "this model's output too"),
    }
    for name, (tensors, weights, reason) in cases.items():
        write_adapter(tmp_path / name, tensors, weights)
        arguments = [str(tmp_path / name), "--base", str(source), "--out", str(tmp_path / "out")]
        assert main(["lora", *arguments]) == 2
        assert reason in capsys.readouterr().err


def test_experts_are_adapted_all_or_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden_checkpoint("mixtral", tmp_path / "mixtral")
    tensors = read_safetensors(source / "model.safetensors")
    some = [name for name in tensors if "experts.0.w1" in name]
    write_adapter(tmp_path / "lora", tensors, some)
    arguments = [str(tmp_path / "lora"), "--base", str(source), "--out", str(tmp_path / "out")]
    assert main(["lora", *arguments]) == 2
    assert "adapts 1 of the" in capsys.readouterr().err


PARAMETERS: dict[str, Any] = {
    "target_modules": ["q_proj"],
    "target_parameters": ["gate_up_proj", "down_proj", "gate.weight"],
    "rank_pattern": {r".*\.gate_up_proj": 8},
    "alpha_pattern": {r".*\.gate_up_proj": 12},
}


def write_parameters(folder: Path, experts: int, **settings: Any) -> dict[str, Any]:
    """An adapter of the golden Qwen 3's experts as PEFT 0.21 writes it on transformers 5."""
    rng = np.random.default_rng(6)
    shapes = {
        "experts.base_layer.lora_A": (8 * experts, 64),
        "experts.base_layer.lora_B": (64, 8 * experts),
        "experts.lora_A": (4 * experts, 32),
        "experts.lora_B": (64, 4 * experts),
        "gate.lora_A": (4, 64),
        "gate.lora_B": (6, 4),
    }
    lora = {
        f"base_model.model.model.layers.1.mlp.{name}.weight": rng.normal(0, 0.2, shape).astype("f4")
        for name, shape in shapes.items()
    }
    write_adapter(folder, {}, [], **{**PARAMETERS, **settings})
    write_safetensors(folder / "adapter_model.safetensors", lora, "F32")
    return {name.removeprefix("base_model.model.model.layers.1."): v for name, v in lora.items()}


def test_experts_that_are_adapted_as_one_tensor(tmp_path: Path) -> None:
    """By PEFT's own formula (`ParamWrapper.get_delta_weight`)."""
    source = golden_checkpoint("qwen3_moe", tmp_path / "base")
    base = as_float32(source)
    lora = write_parameters(tmp_path / "lora", 6)
    merged = converted(source, tmp_path / "merged", ScaledAdapter(tmp_path / "lora", 1.0))
    found = {tensor.name: tensor.data for tensor in GGUFReader(merged).tensors}

    def added(name: str, rank: int) -> Any:
        a, b = (lora[f"mlp.{name}.lora_{half}.weight"] for half in "AB")
        a, b = a.reshape(6, rank, -1), b.reshape(len(b), rank, 6)
        return np.einsum("o r e, e r i -> e o i", b, a) * np.float32(1.5)

    gates, ups = np.split(added("experts.base_layer", 8), 2, axis=1)
    for target, name, change in (
        ("gate", "gate_proj", gates),
        ("up", "up_proj", ups),
        ("down", "down_proj", added("experts", 4)),
    ):
        own = [base[f"model.layers.1.mlp.experts.{expert}.{name}.weight"] for expert in range(6)]
        np.testing.assert_allclose(
            found[f"blk.1.ffn_{target}_exps.weight"], np.stack(own) + change, atol=1e-6
        )
    adapter = convert_adapter(tmp_path / "lora", source, tmp_path)
    plain = converted(source, tmp_path / "plain")
    expected = llama_tools.log_probs(merged, TOKENS)
    assert np.abs(llama_tools.log_probs(plain, TOKENS, {adapter: 1.0}) - expected).max() < 1e-3
    assert np.abs(llama_tools.log_probs(plain, TOKENS) - expected).max() > 0.05


@pytest.mark.parametrize(
    ("experts", "settings", "reason"),
    [
        (3, {}, "adapts fewer experts than the model has"),
        (6, {"rank_pattern": {}, "r": 5}, "which do not fit experts of rank 5"),
        (6, {"target_parameters": ["input_linear"]}, "matrices that are no modules of their own"),
        (7, {}, "merge_and_unload"),
    ],
)
def test_experts_that_do_not_fit_are_refused(
    experts: int, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source = golden_checkpoint("qwen3_moe", tmp_path / "base")
    write_parameters(tmp_path / "lora", experts, **settings)
    with pytest.raises(BadInput, match=reason):
        converted(source, tmp_path / "merged", ScaledAdapter(tmp_path / "lora", 1.0))


def test_the_file_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_checkpoint(tmp_path / "base", Shape())
    tensors = read_safetensors(source / "model.safetensors")
    write_adapter(tmp_path / "lora", tensors, adapted_weights(tensors), use_rslora=True)
    path = convert_adapter(tmp_path / "lora", source, tmp_path)
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "event": "done",
        "path": str(path),
        "bytes": path.stat().st_size,
        "modules": 7,
        "alpha": 12.0,  # 6 / sqrt(4) = 12 / 4
    }
    reader = GGUFReader(path)
    keys = ("general.architecture", "general.type", "general.name", "adapter.type")
    assert [reader.fields[key].contents() for key in keys] == ["llama", "adapter", "lora", "lora"]
    with Checkpoint(source) as base:
        assert len(reader.tensors) == 2 * (len(base.tensors) - 4)
