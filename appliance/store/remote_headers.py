"""GGUF headers of files that are not here: of those on a hub, and of those a checkpoint
there would become.

Knows no memory and makes no choice. The second kind is exact to the byte, for convert
computes it from the headers of the safetensors files, which are fetched without the
weights.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import BadModelFile, ConversionFailed
from appliance.store.fetch import fetch_file
from appliance.store.gguf_header import GgufHeader, read_header_from
from appliance.store.hub.client import RemoteStream
from appliance.store.hub.records import HubFile, Repository
from appliance.store.hub_contents import HubGguf, find_descriptions, find_weights
from appliance.store.split import join_headers, other_parts
from convert.source.descriptions import INDEX_FILE

_MAX_SAFETENSORS_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
_EXIT_BAD_INPUT = 2  # of `python -m convert`


def read_remote_header(repository: Repository, model: HubGguf, directory: Path) -> GgufHeader:
    """The header of a model on a hub, as if its files were in `directory` already;
    fetches no more of them than that, by and large.

    Raises what `read_header` and `list_repository` raise.
    """
    first, *others = (
        read_header_from(
            RemoteStream(repository, file),
            directory / file.name.rpartition("/")[2],
            file.num_bytes,
        )
        for file in model.files
    )
    other_parts(first)  # the first part, by its own account too
    return join_headers(first, others)


def plan_conversion(
    repository: Repository, types: Sequence[str], directory: Path, name: str
) -> tuple[GgufHeader, ...]:
    """The headers that `directory`/`name`-TYPE.gguf would have, were the repository's
    checkpoint converted.

    Raises `BadModelFile` in convert's own words where it cannot be.
    """
    with tempfile.TemporaryDirectory(prefix="appliance-plan-") as folder:
        checkpoint, headers = (
            Path(folder) / repository.id.rpartition("/")[2],
            Path(folder) / ".headers",
        )
        checkpoint.mkdir()
        _fetch_without_weights(repository, checkpoint)
        sizes = _ask_convert(repository, checkpoint, types, headers)
        return tuple(
            read_header_from(
                io.BytesIO((headers / f"{type_name}.gguf.header").read_bytes()),
                directory / f"{name}-{type_name}.gguf",
                sizes[type_name],
            )
            for type_name in types
        )


def _fetch_without_weights(repository: Repository, checkpoint: Path) -> None:
    for file in find_descriptions(repository):
        fetch_file(repository, file, checkpoint / file.name, checkpoint, lambda _num_bytes: None)
    index = checkpoint / INDEX_FILE
    for file in find_weights(repository, index.read_bytes() if index.exists() else None):
        _fetch_header(repository, file, checkpoint / file.name)


def _fetch_header(repository: Repository, file: HubFile, target: Path) -> None:
    """A file of the right size that has a safetensors header and behind it nothing,
    which takes no room on a disk.

    Format: https://github.com/huggingface/safetensors#format.
    """
    stream = RemoteStream(repository, file)
    length = stream.read(8)
    num_bytes = int.from_bytes(length, "little")
    if num_bytes > min(_MAX_SAFETENSORS_HEADER_BYTES, file.num_bytes - 8):
        raise BadModelFile(
            f"{file.name} of {repository.id} is not a safetensors file. Choose another repository."
        )
    with target.open("wb") as out:
        out.write(length + stream.read(num_bytes))
        out.truncate(file.num_bytes)


def _ask_convert(
    repository: Repository, checkpoint: Path, types: Sequence[str], headers: Path
) -> dict[str, int]:
    """Has convert write the headers; returns the files' sizes in bytes by type."""
    command = [sys.executable, "-m", "convert", "plan", str(checkpoint), "--types", ",".join(types)]
    command += ["--headers", str(headers), "--json"]
    # -m looks into the working directory first: here nothing can be mistaken for
    # convert.
    done = subprocess.run(
        command,
        cwd=checkpoint.parent,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        reason = "\n".join(done.stderr.strip().splitlines()[-5:]).replace(
            f"{checkpoint}", repository.id
        )
        text = (
            f"{repository.id} cannot be converted (exit code {done.returncode}): "
            f"{reason or 'no error message'}"
        )
        raise BadModelFile(text) if done.returncode == _EXIT_BAD_INPUT else ConversionFailed(text)
    report = json.loads(done.stdout.splitlines()[-1])
    return {row["type"]: int(row["bytes"]) for row in report["files"]}
