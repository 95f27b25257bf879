"""Adapters with random weights, written as PEFT would."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.convert.checkpoints import read_safetensors, write_safetensors

Tensors = dict[str, NDArray[np.float32]]
EMBEDDING = "embed_tokens"

# All that PEFT 0.21 writes of a `LoraConfig` where nothing else is set.
_UNSET = (
    *("alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config", "eva_config"),
    *("exclude_modules", "kasa_config", "layer_replication", "layers_pattern"),
    *("layers_to_transform", "lora_ga_config", "megatron_config", "modules_to_save"),
    *("monteclora_config", "revision", "target_parameters", "trainable_token_indices"),
    *("use_bdlora", "velora_config"),
)
_NOT = ("ensure_weight_tying", "fan_in_fan_out", "lora_bias", "use_dora", "use_qalora")
AS_SAVED: dict[str, Any] = {
    **dict.fromkeys(_UNSET),
    **dict.fromkeys(_NOT, False),
    "alpha_pattern": {},
    "base_model_name_or_path": "org/base",
    "bias": "none",
    "inference_mode": True,
    "init_lora_weights": True,
    "loftq_config": {},
    "lora_alpha": 6,
    "lora_dropout": 0.0,
    "megatron_core": "megatron.core",
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "target_modules": "all-linear",
    "task_type": "CAUSAL_LM",
    "use_rslora": False,
}


def as_float32(source: Path) -> Tensors:
    """Rewrites a checkpoint of one BF16 file in F32, and returns its tensors."""
    tensors = read_safetensors(source / "model.safetensors")
    write_safetensors(source / "model.safetensors", tensors, "F32")
    return tensors


def adapted_weights(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    """The weights of linear modules: what PEFT calls `all-linear`."""
    return [name for name, values in tensors.items() if values.ndim == 2 and EMBEDDING not in name]


def write_adapter(
    directory: Path,
    base: Mapping[str, NDArray[Any]],
    weights: list[str],
    *,
    rank: Callable[[str], int] = lambda _weight: 4,
    stored_type: str = "F32",
    **settings: Any,
) -> Tensors:
    """An adapter of these weights of `base`; returns its tensors. `settings` are those of
    adapter_config.json.
    """
    directory.mkdir()
    rng = np.random.default_rng(5)
    tensors: Tensors = {}
    for weight in weights:
        rows, columns = base[weight].shape
        kind = "lora_embedding_" if EMBEDDING in weight else "lora_"
        ending = "" if EMBEDDING in weight else ".weight"
        if EMBEDDING in weight:
            rows, columns = columns, rows
        module = f"base_model.model.{weight.removesuffix('.weight')}"
        a, b = (rank(weight), columns), (rows, rank(weight))
        tensors[f"{module}.{kind}A{ending}"] = rng.normal(0, 0.2, a).astype(np.float32)
        tensors[f"{module}.{kind}B{ending}"] = rng.normal(0, 0.2, b).astype(np.float32)
    config = {**AS_SAVED, **settings}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    write_safetensors(directory / "adapter_model.safetensors", tensors, stored_type)
    return tensors
