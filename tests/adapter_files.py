"""LoRA adapters and control vectors of random numbers, as GGUF files for a model's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, GGUFWriter

RANK = 4
LINEAR = r"attn_(q|k|v|qkv|output)\.weight|ffn_(up|gate|down)\.weight|ssm_(in|out)\.weight"


def write_lora(
    path: Path, model: Path, seed: int, *, strength: float = 0.6, targets: str = LINEAR
) -> Path:
    """A pair for each of the model's tensors whose name has `targets` in it."""
    rng = np.random.default_rng(seed)
    pairs: dict[str, npt.NDArray[np.float32]] = {}
    reader = GGUFReader(model)
    drafting = tuple(f"blk.{layer}." for layer in range(num_layers(reader), 99))
    for tensor in reader.tensors:
        if re.search(targets, tensor.name) and not tensor.name.startswith(drafting):
            columns, rows = (int(size) for size in tensor.shape)
            a, b = rng.normal(size=(RANK, columns)), rng.normal(size=(rows, RANK))
            pairs[f"{tensor.name}.lora_a"] = (a * strength / columns**0.5).astype(np.float32)
            pairs[f"{tensor.name}.lora_b"] = (b * strength / RANK**0.5).astype(np.float32)
    return write_pairs(path, architecture_of(reader), pairs)


def write_pairs(
    path: Path, architecture: str, pairs: dict[str, npt.NDArray[np.float32]], kind: str = "lora"
) -> Path:
    """An adapter's file of these tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", float(RANK))
    return _finished(writer, path, pairs)


def write_control_vector(path: Path, model: Path, seed: int, *, strength: float = 0.3) -> Path:
    """A direction for each layer but the first."""
    rng = np.random.default_rng(seed)
    reader = GGUFReader(model)
    architecture = architecture_of(reader)
    width = number_of(reader, f"{architecture}.embedding_length")
    directions = {
        f"direction.{layer}": rng.normal(0, strength, width).astype(np.float32)
        for layer in range(1, num_layers(reader))
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", architecture)
    return _finished(writer, path, directions)


def architecture_of(reader: GGUFReader) -> str:
    return str(reader.fields["general.architecture"].contents())


def num_layers(reader: GGUFReader) -> int:
    """Without those that only draft."""
    architecture = architecture_of(reader)
    key = f"{architecture}.nextn_predict_layers"
    num_drafting = number_of(reader, key) if key in reader.fields else 0
    return number_of(reader, f"{architecture}.block_count") - num_drafting


def number_of(reader: GGUFReader, key: str) -> int:
    return int(reader.fields[key].contents())


def _finished(writer: GGUFWriter, path: Path, tensors: dict[str, npt.NDArray[np.float32]]) -> Path:
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
