"""Whole checkpoints that are quantized become the files that their floats become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from convert.__main__ import main
from convert.errors import BadInput
from convert.pipeline import Job, ScaledAdapter, convert
from tests.convert.checkpoints import (
    Shape,
    change_config,
    golden_checkpoint,
    random_tensors,
    read_safetensors,
    write_checkpoint,
    write_safetensors,
)
from tests.convert.dequantize import packing
from tests.convert.llama_tools import log_probs_of_many
from tests.convert.peft_adapters import adapted_weights, write_adapter

SHAPE = Shape(num_kv_heads=1)
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": False,
                "strategy": "group",
                "group_size": 32,
            },
        }
    },
}
SCHEMES: dict[str, tuple[dict[str, Any], packing.Pack]] = {
    "gptq": ({**GPTQ, "sym": True}, packing.gptq),
    "gptq, asymmetric": (
        {**GPTQ, "sym": False},
        lambda weight: packing.gptq(weight, symmetric=False),
    ),
    "gptq, act-order": (
        {**GPTQ, "sym": True, "desc_act": True},
        lambda weight: packing.gptq(weight, mixed=True),
    ),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 32}, packing.awq),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [40, 40]}, packing.fp8_blocks),
    "compressed, asymmetric": (COMPRESSED, packing.compressed),
    "nvfp4": ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, packing.nvfp4),
}


class Pair:
    """A checkpoint that is quantized, and the same as floats."""

    def __init__(self, directory: Path, scheme: str, shape: Shape = SHAPE) -> None:
        settings, pack = SCHEMES[scheme]
        tensors = random_tensors(shape)
        self.quantized = write_checkpoint(directory / "quantized", shape)
        self.floats = write_checkpoint(directory / "floats", shape)
        values = packing.quantize_checkpoint(self.quantized, tensors, settings, pack)
        write_safetensors(self.floats / "model.safetensors", values, "F32")


def make(source: Path, *types: str, adapter: ScaledAdapter | None = None) -> dict[str, Path]:
    job = Job(
        source=source,
        directory=source.parent / f"{source.name} out",
        name="model",
        types=types,
        num_threads=2,
        adapter=adapter,
    )
    return {file.type: file.path for file in convert(job)}


def values(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {
        tensor.name: dequantize(tensor.data, tensor.tensor_type)
        for tensor in GGUFReader(path).tensors
    }


def types(path: Path) -> dict[str, GGMLQuantizationType]:
    return {tensor.name: tensor.tensor_type for tensor in GGUFReader(path).tensors}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_floats_of_a_quantized_checkpoint(scheme: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, scheme)
    wanted = ("F32", "BF16")
    ours, theirs = make(pair.quantized, *wanted), make(pair.floats, *wanted)
    for name in wanted:
        assert ours[name].read_bytes() == theirs[name].read_bytes()


@pytest.mark.parametrize(
    ("scheme", "smallest"),
    [
        ("gptq", "Q4_0"),
        ("gptq, asymmetric", "Q5_0"),
        ("awq", "Q5_0"),
        ("compressed, asymmetric", "Q4_1"),
    ],
)
def test_quantized_blocks_are_taken_over_bit_for_bit(
    scheme: str, smallest: str, tmp_path: Path
) -> None:
    pair = Pair(tmp_path, scheme)
    made = make(pair.quantized, "SOURCE", "Q8_0", "F32")
    exact = values(made["F32"])
    for name in ("SOURCE", "Q8_0"):
        matrices = [tensor for tensor in exact if "blk" in tensor and exact[tensor].ndim > 1]
        assert len(matrices) == 7
        kinds = types(made[name])
        for tensor in matrices:
            assert kinds[tensor].name == (smallest if name == "SOURCE" else "Q8_0")
            assert values(made[name])[tensor].tobytes() == exact[tensor].tobytes()
    assert types(made["SOURCE"])["token_embd.weight"].name == "F32"


def test_symmetric_weights_are_taken_over_into_q4_0(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "gptq")
    made = make(pair.quantized, "Q4_0", "SOURCE")
    ours, theirs = values(made["Q4_0"]), values(made["SOURCE"])
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_down.weight"):
        assert ours[name].tobytes() == theirs[name].tobytes()
    again = values(make(pair.floats, "Q4_0")["Q4_0"])["blk.0.attn_q.weight"]
    assert (again != ours["blk.0.attn_q.weight"]).any()  # what it would be, rounded again


@pytest.mark.parametrize("scheme", ["gptq, act-order", "fp8"])
def test_what_gguf_has_no_blocks_for(scheme: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, scheme)
    with pytest.raises(BadInput, match="nothing to take over as SOURCE"):
        make(pair.quantized, "SOURCE")


def test_a_note_says_what_becomes_of_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = Pair(tmp_path, "gptq")
    assert main(["plan", str(pair.quantized), "--types", "Q4_0", "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note.startswith("7 weights of the checkpoint are already quantized (gptq)")
    assert "Q4_0, Q5_0, Q8_0 hold the same numbers" in note


def test_experts_lie_in_one_tensor(tmp_path: Path) -> None:
    shape = Shape(architecture="MixtralForCausalLM", num_experts=4)
    pair = Pair(tmp_path, "gptq", shape)
    made = make(pair.quantized, "F32", "SOURCE")
    assert made["F32"].read_bytes() == make(pair.floats, "F32")["F32"].read_bytes()
    name = "blk.0.ffn_down_exps.weight"
    assert types(made["SOURCE"])[name].name == "Q4_0"
    assert values(made["SOURCE"])[name].tobytes() == values(made["F32"])[name].tobytes()


def test_an_adapter_is_added_to_what_the_weights_stand_for(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "awq")
    tensors = random_tensors(SHAPE)
    write_adapter(tmp_path / "lora", tensors, adapted_weights(tensors))
    adapter = ScaledAdapter(tmp_path / "lora", 0.5)
    ours, theirs = (
        make(source, "F32", "Q8_0", adapter=adapter) for source in (pair.quantized, pair.floats)
    )
    for name in ("F32", "Q8_0"):  # a sum is no number of the source: it is quantized as usual
        assert ours[name].read_bytes() == theirs[name].read_bytes()


# --- gpt-oss --------------------------------------------------------------------------


def write_gpt_oss(directory: Path, *, as_floats: bool) -> Path:
    """The golden checkpoint with other experts: random blocks, or the floats they stand for."""
    source = golden_checkpoint("gpt_oss", directory)
    rng = np.random.default_rng(4)
    numbers = np.array([0, 1, 2, 3, 4, 6, 8, 12], np.float32) / 2
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, values in read_safetensors(source / "model.safetensors").items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            tensors[name] = values
            continue
        experts, items, rows = values.shape
        codes = rng.integers(0, 16, (experts, rows, items), dtype=np.uint8)
        powers = rng.integers(118, 124, (experts, rows, items // 32), dtype=np.uint8)
        if as_floats:
            scales = np.repeat(2.0 ** (powers.astype(np.float32) - 127), 32, axis=2)
            floats = numbers[codes & 7] * np.where(codes & 8, -1, 1) * scales
            tensors[name] = floats.transpose(0, 2, 1).astype(np.float32)
        else:
            packed = codes[:, :, ::2] | codes[:, :, 1::2] << 4
            tensors[f"{name}_blocks"] = packed.reshape(experts, rows, items // 32, 16)
            tensors[f"{name}_scales"] = powers
    packing.write_tensors(source / "model.safetensors", tensors)
    settings = {} if as_floats else {"quantization_config": {"quant_method": "mxfp4"}}
    change_config(source, lambda config: config.update(settings))
    return source


def test_experts_of_gpt_oss_are_kept_as_mxfp4(tmp_path: Path) -> None:
    quantized = write_gpt_oss(tmp_path / "quantized", as_floats=False)
    floats = make(write_gpt_oss(tmp_path / "floats", as_floats=True), "F32")["F32"]
    made = make(quantized, "F32", "SOURCE")
    assert made["F32"].read_bytes() == floats.read_bytes()
    exact, kept = values(floats), values(made["SOURCE"])
    kinds = types(made["SOURCE"])
    experts = [name for name in exact if name.endswith("exps.weight")]
    assert len(experts) == 6
    for name in experts:
        assert kinds[name].name == "MXFP4"
        assert np.array_equal(kept[name], exact[name])


# --- NVFP4, whose second scale is a tensor of its own ---------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        Shape(num_kv_heads=1, feed_forward=128),
        Shape(architecture="MixtralForCausalLM", num_experts=4, feed_forward=128),
    ],
    ids=["dense", "experts"],
)
def test_nvfp4_is_kept_with_its_scales(shape: Shape, tmp_path: Path) -> None:
    pair = Pair(tmp_path, "nvfp4", shape)
    made = make(pair.quantized, "SOURCE", "F32", "Q8_0")
    exact, kept, kinds = values(made["F32"]), values(made["SOURCE"]), types(made["SOURCE"])
    matrices = [name for name, kind in kinds.items() if kind.name == "NVFP4"]
    assert len(matrices) == 7
    for name in matrices:
        scales = kept.pop(f"{name.removesuffix('.weight')}.scale")
        # blocks and scale are the checkpoint's; their product is rounded in another order
        np.testing.assert_allclose(
            kept[name] * scales.reshape(-1, *[1] * (exact[name].ndim - 1)), exact[name], rtol=2e-7
        )
    assert not [name for name in exact if name.endswith(".scale")]
    assert kept.keys() == exact.keys()
    found = log_probs_of_many({made[name]: range(3, 23) for name in ("SOURCE", "Q8_0", "F32")})
    ours, eight, full = (found[made[name]] for name in ("SOURCE", "Q8_0", "F32"))
    # both round inputs to 8 bits; Q8_0 rounds weights too
    assert np.abs(ours - full).max() <= 1.5 * np.abs(eight - full).max()


def test_nvfp4_of_a_family_whose_graph_has_no_such_scales(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "nvfp4", Shape(architecture="Qwen2ForCausalLM"))
    with pytest.raises(BadInput, match="nothing to take over as SOURCE"):
        make(pair.quantized, "SOURCE")
    assert make(pair.quantized, "F32")["F32"].read_bytes() == (
        make(pair.floats, "F32")["F32"].read_bytes()
    )
