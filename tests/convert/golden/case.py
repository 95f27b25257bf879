"""What a golden checkpoint is made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Publish = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A checkpoint: `model` is a class of transformers;
    `config` is what differs from `SMALL`.

    `older_layout` rewrites config.json as it was written before transformers 5.
    `pools` says what of the last layer is kept too, for models that make embeddings.
    `prepare` changes the random weights. `publish` rewrites the files as the family's
    best-known release has them, after the reference was computed; `release` names it and
    says what is particular there.
    """

    model: str
    config: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.bfloat16
    older_layout: bool = False
    pools: bool = False
    prepare: Callable[[torch.nn.Module], Any] | None = None
    publish: Publish | None = None
    release: str = ""


def yarn(factor: float, original: int) -> dict[str, Any]:
    return {
        "rope_type": "yarn",
        "rope_theta": 1000.0,
        "factor": factor,
        "original_max_position_embeddings": original,
    }


def rewrite(
    change_config: Callable[[dict[str, Any]], Any],
    change_tensors: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = dict,
) -> Publish:
    """Has both edit what was saved."""

    def publish(directory: Path) -> None:
        path = directory / "config.json"
        config = json.loads(path.read_text())
        config = change_config(config) or config
        path.write_text(json.dumps(config, indent=2) + "\n")
        weights = directory / "model.safetensors"
        tensors = change_tensors(load_file(weights))
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            weights,
            metadata={"format": "pt"},
        )

    return publish
