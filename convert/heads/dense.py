"""The two matrices that EmbeddingGemma multiplies its pooled embedding by (sentence-transformers'
Dense), which llama.cpp computes of this family alone.

Knows no pooling. Source: `build_dense_out` in llama.cpp's llama-graph.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.config import Config, read_json
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, u32
from convert.safetensors_file import SafetensorsFile
from convert.tensors import OutputTensor, Plain

FAMILIES = ("gemma-embedding",)
_FIRST = 2  # in llama.cpp's names, after the folders of EmbeddingGemma
_NUM_LAYERS = 2
WEIGHTS_FILE, _WEIGHT = "model.safetensors", "linear.weight"


@dataclass(frozen=True, kw_only=True)
class DenseLayer:
    """One of them; without a bias, and without an activation after it."""

    folder: str  # in the checkpoint
    inputs: int
    outputs: int


def read_dense(directory: Path, folders: Sequence[str]) -> tuple[DenseLayer, ...]:
    """Nothing where there are no such `folders`.

    Raises `UnsupportedModel` for what llama.cpp would compute otherwise; `MissingFile`,
    `DamagedCheckpoint`.
    """
    if folders and len(folders) != _NUM_LAYERS:
        raise UnsupportedModel(
            f"{directory} has {len(folders)} Dense modules after pooling; llama.cpp computes "
            f"{_NUM_LAYERS}."
        )
    return tuple(_read(directory, folder) for folder in folders)


def _read(directory: Path, folder: str) -> DenseLayer:
    path = directory / folder / "config.json"
    config = Config(str(path), read_json(path))
    activation = config.text("activation_function", "Identity").rpartition(".")[2]
    if config.flag("bias", True) or activation != "Identity":
        raise UnsupportedModel(
            f"{path} describes a Dense module with a bias or an activation ({activation}); "
            "llama.cpp multiplies by its matrix alone."
        )
    return DenseLayer(
        folder=folder,
        inputs=config.integer("in_features"),
        outputs=config.integer("out_features"),
    )


def dense_fields(name: str, layers: Sequence[DenseLayer], hidden: int) -> tuple[Field, ...]:
    """For a model whose last layer has `hidden` numbers.

    Raises `UnsupportedModel` for sizes that llama.cpp has no room for.
    """
    if not layers:
        return ()
    first, second = layers
    if (first.inputs, second.inputs, second.outputs) != (hidden, first.outputs, hidden):
        raise UnsupportedModel(
            f"The Dense modules make {first.outputs} numbers of {first.inputs} and "
            f"{second.outputs} of {second.inputs}; llama.cpp's {name} needs to begin and to end "
            f"with the {hidden} of the model."
        )
    return tuple(
        u32(f"{name}.dense_{_FIRST + index}_feat_{side}", size)
        for index, layer in enumerate(layers)
        for side, size in (("in", layer.inputs), ("out", layer.outputs))
    )


def dense_tensor(index: int, layer: DenseLayer, file: SafetensorsFile) -> OutputTensor:
    """The matrix of the layer of this `index`, from its own file. Raises `DamagedCheckpoint`."""
    tensor = file.tensors.get(_WEIGHT)
    shape = (layer.outputs, layer.inputs)
    if tensor is None or tensor.shape != shape or len(file.tensors) != 1:
        raise DamagedCheckpoint(
            f"{file.path} must hold {_WEIGHT} of the shape {list(shape)} alone, as the "
            "config.json beside it says."
        )
    return OutputTensor(f"dense_{_FIRST + index}.weight", shape, Plain(tensor))
