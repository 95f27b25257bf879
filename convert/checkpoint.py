"""A Hugging Face checkpoint directory: its config and every tensor's place.

Reads no weights; knows no model family.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

from convert.config import Config, read_json
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import SafetensorsFile, StoredTensor
from convert.source.folder import check_folder, check_is_no_pointer
from convert.source.weight_files import INDEX_FILE, find_weight_files

# methods whose weights are stored unquantized, but were trained to be quantized
_QUANTIZED_WHILE_RUNNING = ("bitnet",)
_READ_SUFFIXES = frozenset({".json", ".safetensors", ".model", ".jinja"})
_READ_FOLDERS = ("additional_chat_templates", "*_Pooling")


class Checkpoint:
    """A checkpoint; its weights are opened when `tensors` is first asked for, so that what
    kind of model it is can be checked before. Use it as a context manager.

    Raises `BadInput` of some kind when the directory is not a readable checkpoint.
    """

    def __init__(self, directory: Path) -> None:
        check_folder(directory)
        self.directory = directory
        check_files(directory)
        config_path = directory / "config.json"
        self.config = Config(str(config_path), read_json(config_path))
        self.notes: list[str] = []  # sentences on what was found and left aside
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
        tensors = self._open_tensors()
        self._check_quantization(tensors)
        return tensors

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

    def _check_quantization(self, tensors: Mapping[str, StoredTensor]) -> None:
        """Raises `UnsupportedModel` for quantized weights.

        What is left of a quantization after its weights were saved unquantized becomes
        a note.
        """
        settings = self.config.values.get("quantization_config")
        if settings is None:
            return
        method = settings.get("quant_method") if isinstance(settings, dict) else None
        packed = [t for t in tensors.values() if t.stored_type.may_be_packed]
        if packed or method in _QUANTIZED_WHILE_RUNNING:
            raise UnsupportedModel(
                f"{self.config.path} describes weights that are already quantized"
                f"{f' ({method})' if method else ''}. Use the original, unquantized checkpoint."
            )
        self.notes.append(
            f"config.json still has a quantization_config ({method or 'without a method'}), but no "
            "weight is quantized: the weights were converted as they are."
        )

    def _open(self, name: str) -> SafetensorsFile:
        file = SafetensorsFile(self.directory / name)
        self._files.append(file)
        return file


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_files(directory: Path) -> None:
    """Every file that may be read is a plain file of this checkpoint.

    A symbolic link may lead elsewhere within the directory, or from a snapshot of the
    Hugging Face cache to that cache's blobs (snapshots/REVISION/NAME ->
    ../../blobs/HASH). Raises `DamagedCheckpoint` for any other, which would put a
    stranger's file into the output, and for what is no regular file, which might never
    end.
    """
    root = directory.resolve()
    homes = [root]
    if root.parent.name == "snapshots":
        homes.append(root.parent.parent / "blobs")
    try:
        folders = [
            path for pattern in _READ_FOLDERS for path in directory.glob(pattern) if path.is_dir()
        ]
        for path in [path for folder in (directory, *folders) for path in folder.iterdir()]:
            is_read = path.suffix in _READ_SUFFIXES or path.name == "vocab.txt"
            if is_read and not path.is_dir():
                _check_file(path, homes)
    except OSError as error:
        raise MissingFile(f"{error.filename} cannot be read: {error.strerror}.") from error


def _check_file(path: Path, homes: Sequence[Path]) -> None:
    try:
        target = path.resolve()
    except RuntimeError:  # a loop, of which Python 3.13 and later make nothing
        target = path
    if target.is_symlink():
        raise DamagedCheckpoint(f"{path} is a symbolic link that points back to itself.")
    if not any(home in target.parents for home in homes):
        raise DamagedCheckpoint(
            f"{path} is a symbolic link to {target}, outside the checkpoint. Replace the link "
            "with a copy of the file."
        )
    if not target.exists():
        raise MissingFile(
            f"{path} is a symbolic link to {target}, which is missing. Download it again."
        )
    if not stat.S_ISREG(target.stat().st_mode):
        raise DamagedCheckpoint(f"{path} is not a regular file.")
    if not os.access(target, os.R_OK):
        raise MissingFile(f"{path} cannot be read: permission denied.")
    check_is_no_pointer(path)
