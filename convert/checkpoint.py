"""A Hugging Face checkpoint directory: its config and every tensor's place.

Reads no weights; knows no model family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

from convert.config import Config, read_json, read_optional_json
from convert.dequantize.quantization import dequantized
from convert.dequantize.repack import ScaleRounding
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.safetensors_file import SafetensorsFile, StoredTensor
from convert.source.descriptions import ADAPTER_FILE, INDEX_FILE, QUANTIZATION_FILE
from convert.source.folder import check_folder
from convert.source.links import check_files
from convert.source.weight_files import find_weight_files

# methods whose weights may be stored unquantized, but were trained to be quantized
_QUANTIZED_WHILE_RUNNING = ("bitnet",)


class Checkpoint:
    """A checkpoint; its weights are opened when `tensors` is first asked for, so that what
    kind of model it is can be checked before. Use it as a context manager.

    Raises `BadInput` of some kind when the directory is not a readable checkpoint.
    """

    def __init__(
        self,
        directory: Path,
        open_weights: Callable[[Path], SafetensorsFile] = SafetensorsFile,
    ) -> None:
        self._open_weights = open_weights
        check_folder(directory)
        self.directory = directory
        check_files(directory)
        config_path = directory / "config.json"
        self.config = Config(str(config_path), read_json(config_path))
        self.notes: list[str] = []  # sentences on what was found and left aside
        if (directory / ADAPTER_FILE).exists():
            self.notes.append(
                f"The folder also holds an adapter ({ADAPTER_FILE}), which transformers would "
                "load too. It was left aside; --merge-lora adds it to the weights."
            )
        self.rounding = ScaleRounding()  # of quantized weights that were taken over
        self._files: list[SafetensorsFile] = []

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files:
            file.close()

    @cached_property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor's place, by its name. Raises `BadInput` of some kind at first use."""
        return self._dequantized(self._open_tensors())

    def _open_tensors(self) -> dict[str, StoredTensor]:
        found = find_weight_files(self.directory)
        tensors: dict[str, StoredTensor] = {}
        for name in found.names:
            for tensor in self._open(name).tensors.values():
                other = tensors.setdefault(tensor.name, tensor)
                if other is tensor:
                    continue
                if tensor.name not in found.places:
                    raise DamagedCheckpoint(
                        f"{other.file.path} and {tensor.file.path} both contain the tensor "
                        f"{tensor.name}. Leave only the files of one model in the folder."
                    )
                if found.places[tensor.name] == name:
                    tensors[tensor.name] = tensor
        # such as a head that is the embedding once more, of which only one was saved
        absent = sorted(found.places.keys() - tensors.keys())
        if absent:
            self.notes.append(
                f"Left out because they are in none of the files that {INDEX_FILE} names: "
                f"{_few(absent)}."
            )
        return tensors

    def _dequantized(self, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
        """`tensors` with floats for quantized weights.

        What is left of a quantization after its weights were saved unquantized becomes a
        note. Raises `UnsupportedModel` for a scheme that is not known.
        """
        settings = self._quantization_config()
        method = settings.values.get("quant_method")
        found = dequantized(tensors, settings)
        if found is not None:
            self.notes += found.notes
            self.rounding = found.rounding
            return found.tensors
        if method in _QUANTIZED_WHILE_RUNNING:
            raise UnsupportedModel(
                f"{settings.path} describes weights that are quantized when the model is loaded "
                f"({method}), which cannot be converted. Use a ready-made GGUF."
            )
        if "quantization_config" in self.config:
            self.notes.append(
                f"config.json still has a quantization_config ({method or 'without a method'}), "
                "but no weight is quantized: the weights were converted as they are."
            )
        return tensors

    def _quantization_config(self) -> Config:
        """What the checkpoint says of its quantization, in one of the places where it may."""
        for config in (self.config, self.config.section("text_config")):
            for key in ("quantization_config", "compression_config", "quantization"):
                if isinstance(config.values.get(key), dict):
                    return config.section(key)
        path = self.directory / QUANTIZATION_FILE
        settings = read_optional_json(path).get("quantization")
        if isinstance(settings, dict):
            return Config(str(path), {"quant_method": "modelopt", **settings})
        return self.config.section("quantization_config")

    def open_beside(self, name: str) -> SafetensorsFile:
        """A small file of weights that are not the model's own, by its path in the folder."""
        file = SafetensorsFile(self.directory / name)
        self._files.append(file)
        return file

    def _open(self, name: str) -> SafetensorsFile:
        file = self._open_weights(self.directory / name)
        self._files.append(file)
        return file


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
