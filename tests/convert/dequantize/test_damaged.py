"""Whatever is wrong with quantized tensors or their settings is an error with a name."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.config import Config
from convert.dequantize.quantization import dequantized
from convert.errors import ConvertError
from convert.safetensors_file import SafetensorsFile, StoredTensor, StoredType

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))
ROUNDS = 40
VALUES: tuple[Any, ...] = (None, 0, -1, 3, 1 << 40, "x", [], {}, True, 1.5)


def damaged(tensor: StoredTensor, rng: np.random.Generator) -> StoredTensor:
    match int(rng.integers(4)):
        case 0:
            return replace(tensor, shape=tuple(int(n) for n in rng.integers(0, 70, 2)))
        case 1:
            return replace(tensor, shape=tensor.shape[: int(rng.integers(3))])
        case 2:
            kinds = list(StoredType)
            return replace(tensor, stored_type=kinds[int(rng.integers(len(kinds)))])
        case _:  # other numbers
            return replace(tensor, offset=int(rng.integers(8, 4000)))


def damaged_settings(settings: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    copy = json.loads(json.dumps(settings))
    inner = copy
    if "config_groups" in copy and rng.integers(2):
        inner = copy["config_groups"]["group_0"]["weights"]
    keys = [key for key in inner if key != "quant_method"]
    if keys:
        inner[keys[int(rng.integers(len(keys)))]] = VALUES[int(rng.integers(len(VALUES)))]
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_named(name: str) -> None:
    file = SafetensorsFile(GOLDEN / f"{name}.safetensors")
    settings = json.loads(file.texts["quantization_config"])
    rng = np.random.default_rng(NAMES.index(name))
    names = [tensor for tensor in file.tensors if tensor != "expected"]
    for _ in range(ROUNDS):
        tensors, said = dict(file.tensors), settings
        if rng.integers(4):
            chosen = names[int(rng.integers(len(names)))]
            tensors[chosen] = damaged(tensors[chosen], rng)
        else:
            said = damaged_settings(settings, rng)
        with contextlib.suppress(ConvertError), np.errstate(all="ignore"):
            found = dequantized(tensors, Config("config.json", said))
            weight = None if found is None else found.tensors.get("layer.weight")
            if weight is not None and weight.stored_type.holds_weights:
                weight.read_rows(0, weight.num_rows)
                for ggml_type in weight.packs:
                    weight.read_packed(0, 1, ggml_type)
    file.close()
