"""A Hugging Face checkpoint directory: its config and every tensor's place.

Reads no weights; knows no model family.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from convert.config import Config, read_json
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import SafetensorsFile, StoredTensor

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_READ_SUFFIXES = frozenset({".json", ".safetensors", ".model", ".txt", ".jinja"})
_READ_FOLDERS = ("additional_chat_templates", "*_Pooling")


class Checkpoint:
    """An open checkpoint.

    `tensors` maps every tensor's name to its place; use it as a context manager.

    Raises `BadInput` of some kind when the directory is not a whole, readable
    checkpoint.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise MissingFile(
                f"{directory} is not a directory. Pass the folder that contains config.json."
            )
        self.directory = directory
        check_files(directory)
        config_path = directory / "config.json"
        self.config = Config(str(config_path), read_json(config_path))
        if "quantization_config" in self.config:
            raise UnsupportedModel(
                f"{config_path} describes weights that are already quantized. Use the original, "
                "unquantized checkpoint."
            )
        self.notes: list[str] = []  # sentences on what was found and left aside
        self._files: list[SafetensorsFile] = []
        try:
            self.tensors = self._open_tensors()
        except BaseException:
            self.close()
            raise

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

    def _open_tensors(self) -> dict[str, StoredTensor]:
        # where both are there, transformers takes this one too
        if (self.directory / SINGLE_FILE).exists():
            return self._open(SINGLE_FILE).tensors
        if (self.directory / INDEX_FILE).exists():
            return self._open_shards()
        if any(self.directory.glob("pytorch_model*.bin")):
            raise UnsupportedModel(
                f"{self.directory} stores its weights as pickle files (pytorch_model*.bin). "
                "These can run code when they are loaded, so they are never opened. Use a "
                "safetensors version of this model."
            )
        raise MissingFile(f"{self.directory} contains neither {SINGLE_FILE} nor {INDEX_FILE}.")

    def _open_shards(self) -> dict[str, StoredTensor]:
        index_path = self.directory / INDEX_FILE
        weight_map = read_json(index_path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise DamagedCheckpoint(f"{index_path} has no weight_map.")
        for shard in weight_map.values():
            is_plain = isinstance(shard, str) and Path(shard).name == shard and "\0" not in shard
            if not is_plain or not shard.endswith(".safetensors"):
                raise DamagedCheckpoint(
                    f"{index_path} names the shard {shard!r}, which is not the name of a "
                    "safetensors file in the same folder."
                )
        shards = {shard: self._open(shard) for shard in sorted(set(weight_map.values()))}
        return {name: self._in_shard(name, shards[shard]) for name, shard in weight_map.items()}

    def _open(self, name: str) -> SafetensorsFile:
        file = SafetensorsFile(self.directory / name)
        self._files.append(file)
        return file

    @staticmethod
    def _in_shard(name: str, shard: SafetensorsFile) -> StoredTensor:
        if name not in shard.tensors:
            raise DamagedCheckpoint(
                f"{shard.path} does not contain the tensor {name}, although {INDEX_FILE} says "
                "that it does."
            )
        return shard.tensors[name]


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
            if path.suffix in _READ_SUFFIXES and not path.is_dir():
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
