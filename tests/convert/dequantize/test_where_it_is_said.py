"""The places where a checkpoint may say how it is quantized, and NVIDIA's way of saying it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.__main__ import main
from convert.checkpoint import Checkpoint
from convert.config import Config
from convert.dequantize.quantization import dequantized
from convert.errors import UnsupportedModel
from convert.safetensors_file import SafetensorsFile
from tests.convert.checkpoints import Shape, change_config, random_tensors, write_checkpoint
from tests.convert.dequantize import packing

GOLDEN = Path(__file__).parent / "golden"
FP8 = {"quant_method": "fp8", "weight_block_size": [40, 40]}


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    source = write_checkpoint(tmp_path / "source", Shape())
    packing.quantize_checkpoint(source, random_tensors(Shape()), FP8, packing.fp8_blocks)
    return source


def note(source: Path) -> str:
    with Checkpoint(source) as checkpoint:
        assert all(tensor.stored_type.holds_weights for tensor in checkpoint.tensors.values())
        return checkpoint.notes[0]


def move(key: str, *, inside: str | None = None) -> Any:
    def change(config: dict[str, Any]) -> None:
        settings = config.pop("quantization_config")
        (config if inside is None else config.setdefault(inside, {}))[key] = settings

    return change


def test_in_config_json_under_its_older_name(quantized: Path) -> None:
    change_config(quantized, move("compression_config"))
    assert "(fp8)" in note(quantized)


def test_in_the_text_part_of_config_json(quantized: Path) -> None:
    change_config(quantized, move("quantization_config", inside="text_config"))
    assert "(fp8)" in note(quantized)


def test_in_a_file_of_nvidias(quantized: Path) -> None:
    change_config(quantized, lambda config: config.pop("quantization_config"))
    settings = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
    (quantized / "hf_quant_config.json").write_text(json.dumps(settings))
    assert "(modelopt)" in note(quantized)


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        ("compressed-int4", "compressed-tensors writes"),
        ("gptq", "GPTQ or AWQ write"),
        ("awq", "GPTQ or AWQ write"),
        ("hqq", "HQQ writes"),
        ("aqlm", "AQLM writes"),
        ("bnb", "bitsandbytes writes"),
    ],
)
def test_packed_weights_that_nothing_describes_are_named(name: str, writer: str) -> None:
    path = next(path for path in sorted(GOLDEN.glob("*.safetensors")) if path.name.startswith(name))
    with pytest.raises(UnsupportedModel, match=f"{writer} quantized weights, but config.json"):
        dequantized(SafetensorsFile(path).tensors, Config("config.json", {}))


@pytest.mark.parametrize("block", [128, 32])
def test_blocks_that_no_config_tells_of(block: int, tmp_path: Path) -> None:
    weight = np.random.default_rng(2).normal(0, 0.05, (192, 64)).astype(np.float32)
    packed, expected = packing.fp8_blocks(weight, block)
    path = tmp_path / "model.safetensors"
    packing.write_tensors(path, {f"layer.{name}": part for name, part in packed.items()})
    found = dequantized(SafetensorsFile(path).tensors, Config("config.json", {}))
    assert found is not None
    assert found.tensors["layer.weight"].read_rows(0, 192).tobytes() == expected.tobytes()


def test_nvfp4_of_nvidias_multiplies_by_both_scales() -> None:
    """By the formula: the number times (the group's FP8 scale times the whole's)."""
    file = SafetensorsFile(GOLDEN / "compressed-nvfp4.safetensors")
    parts = {
        "layer.weight": file.tensors["layer.weight_packed"],
        "layer.weight_scale": file.tensors["layer.weight_scale"],
        "layer.weight_scale_2": file.tensors["layer.weight_global_scale"],
        "layer.input_scale": file.tensors["layer.weight_global_scale"],
    }
    found = dequantized(parts, Config("config.json", {"quant_method": "modelopt"}))
    assert found is not None
    assert found.tensors.keys() == {"layer.weight"}
    octets, scales, factor = (
        parts[f"layer.{name}"].read_rows(0, parts[f"layer.{name}"].num_rows)
        for name in ("weight", "weight_scale", "weight_scale_2")
    )
    codes = np.stack([octets & 15, octets >> 4], axis=-1).reshape(len(octets), -1, 16)
    sizes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)[codes & 7]
    both = packing.e4m3_numbers()[scales] * factor.reshape(())
    expected = np.where(codes & 8, -sizes, sizes) * both[:, :, None]
    assert found.tensors["layer.weight"].read_rows(0, 32).tolist() == (
        expected.reshape(32, -1).tolist()
    )


# --- settings of single modules, and AutoRound's names for GPTQ's and AWQ's -----------------


def weight_of(golden: str, settings: dict[str, Any]) -> bytes:
    tensors = {
        name: tensor
        for name, tensor in SafetensorsFile(GOLDEN / f"{golden}.safetensors").tensors.items()
        if name != "expected"
    }
    found = dequantized(tensors, Config("config.json", settings))
    assert found is not None
    return found.tensors["layer.weight"].read_rows(0, 32).tobytes()


@pytest.mark.parametrize(
    ("golden", "method", "version", "packing_format"),
    [
        ("gptq-4", "gptq", "gptq", "auto_round:auto_gptq"),
        ("gptq-4-version-2", "gptq", "gptq_v2", "auto_round"),
        ("awq", "awq", None, "auto_round:auto_awq"),
    ],
)
def test_auto_round_packs_as_others_do(
    golden: str, method: str, version: str | None, packing_format: str
) -> None:
    common = {"bits": 4, "group_size": 32}
    theirs = {**common, "quant_method": "auto-round", "packing_format": packing_format}
    ours = {**common, "quant_method": method, "checkpoint_format": version}
    assert weight_of(golden, theirs) == weight_of(golden, ours)


@pytest.mark.parametrize(
    ("golden", "method", "version", "backend"),
    [
        ("gptq-4", "gptq", "gptq", "auto_round:gptq:exllamav2"),
        ("gptq-4-version-2", "gptq", "gptq_v2", "auto_round:exllamav2"),
        ("awq", "awq", None, None),
    ],
)
def test_auto_round_before_it_had_a_packing_format(
    golden: str, method: str, version: str | None, backend: str | None
) -> None:
    common = {"bits": 4, "group_size": 32}
    theirs = {**common, "quant_method": "intel/auto-round", "backend": backend}
    ours = {**common, "quant_method": method, "checkpoint_format": version}
    assert weight_of(golden, theirs) == weight_of(golden, ours)


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "gptq", "dynamic": {"-:l": {}, "+:^lay.*": {"bits": 8}}},
        {"quant_method": "auto-round", "extra_config": {"layer": {"bits": 8}}},
    ],
)
def test_a_module_has_settings_of_its_own(settings: dict[str, Any]) -> None:
    common = {"bits": 4, "group_size": 32}
    plain = {"quant_method": "gptq", "bits": 8, "group_size": 32}
    assert weight_of("gptq-8", {**common, **settings}) == weight_of("gptq-8", plain)


# --- trained to be quantized ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"), [("gemma-3-4b-it-qat-q4_0-unquantized", 1), ("aquatic-q4_0", 0)]
)
def test_a_model_trained_for_q4_0_is_known_by_its_name(
    name: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / name, Shape())
    assert main(["plan", str(source), "--types", "Q4_0", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert sum("(QAT)" in text for text in notes) == count
