"""What a path is that was meant as a checkpoint, in words that say what to do with it.

Opens no weights; knows no model family.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from convert.errors import BadInput, DamagedCheckpoint, MissingFile, UnsupportedModel

LFS_MARK = b"version https://git-lfs.github.com/spec/"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHOWN_SNAPSHOTS = 3


def check_folder(path: Path) -> None:
    """Raises `BadInput` of some kind for a path that is no folder with a checkpoint."""
    if path.is_file():
        raise _not_a_folder(path)
    if not path.is_dir():
        raise MissingFile(
            f"{path} is not a directory. Pass the folder that contains config.json."
            f"{_hub_hint(path)}"
        )
    if (path / "config.json").exists():
        return
    snapshots = path / "snapshots"
    if snapshots.is_dir():
        raise UnsupportedModel(
            f"{path} is a folder of the Hugging Face cache, not a checkpoint. Pass a snapshot in "
            f"it: {_snapshots(path)}."
        )
    other = find_other_content(path)
    if other is not None:
        raise other
    inner = sorted(config.parent for config in path.glob("*/config.json"))
    if inner:
        shown = " or ".join(map(str, inner[:_SHOWN_SNAPSHOTS]))
        raise MissingFile(
            f"{path} has no config.json of its own. Pass the folder with the checkpoint in it: "
            f"{shown}{', ...' if len(inner) > _SHOWN_SNAPSHOTS else ''}."
        )


def find_other_content(directory: Path) -> BadInput | None:
    """What a folder without a checkpoint's files holds instead, if that is known here."""
    if (directory / "adapter_config.json").exists():
        return UnsupportedModel(
            f"{directory} is an adapter (LoRA) for {_base_model(directory)}, not a whole model. "
            f"Convert it to an adapter of that model's GGUF: appliance-convert --lora {directory} "
            f"--base SRC --out DIR, or merge it: appliance-convert SRC --merge-lora {directory} "
            "--out DIR."
        )
    ggufs = sorted(directory.glob("*.gguf"))
    if ggufs:
        return UnsupportedModel(
            f"{directory} contains GGUF files, which need no conversion. Serve one: appliance "
            f"serve {ggufs[0]}"
        )
    if any(directory.glob("consolidated*")):
        return UnsupportedModel(
            f"{directory} contains its weights only in the layout of the model's own software "
            "(consolidated.*). Use the layout of transformers: config.json and "
            "model*.safetensors, in most cases in the same repository."
        )
    return None


def check_is_no_pointer(path: Path) -> None:
    """Raises `MissingFile` for what Git leaves in place of a large file that it did not fetch."""
    with path.open("rb") as file:
        if file.read(len(LFS_MARK)) == LFS_MARK:
            raise MissingFile(
                f"{path} is only a Git LFS pointer to the file. Fetch the file itself: "
                f"git -C {path.parent} lfs pull"
            )


def not_json(path: Path, text: str, error: Exception) -> DamagedCheckpoint:
    """Why `text`, the content of `path`, is no JSON."""
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return DamagedCheckpoint(
            f"{path} is a web page (HTML), not the file itself. Download it again; where a model "
            "is only given to those who accepted its terms, with a token (HF_TOKEN)."
        )
    return DamagedCheckpoint(f"{path} is not valid JSON: {error}")


def folder_name(source: Path) -> str:
    """What a model is called by its folder: in the Hugging Face cache
    (models--ORG--NAME/snapshots/REVISION) by its repository.
    """
    folder = source.resolve()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.split("--", 2)[-1]
    return folder.name


def _not_a_folder(path: Path) -> BadInput:
    with path.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    if is_gguf or path.suffix == ".gguf":
        return UnsupportedModel(
            f"{path} is a GGUF file, which needs no conversion. Serve it: appliance serve {path}"
        )
    return MissingFile(
        f"{path} is a file. Pass the folder that contains it together with config.json."
    )


def _hub_hint(path: Path) -> str:
    """How to get a model whose name on the Hugging Face Hub was given instead of a folder."""
    name = path.as_posix()
    if name.startswith("models--"):
        name = name.removeprefix("models--").replace("--", "/", 1)
    if not _HUB_ID.fullmatch(name):
        return ""
    folder = name.rpartition("/")[2]
    return (
        f" If you mean {name} on Hugging Face, fetch it first: appliance pull {name}, or hf "
        f"download {name} --local-dir {folder}"
    )


def _snapshots(repository: Path) -> str:
    revisions = sorted(path for path in (repository / "snapshots").iterdir() if path.is_dir())
    if not revisions:
        return "there is none yet; download the model again"
    main = repository / "refs" / "main"
    if main.is_file():
        wanted = repository / "snapshots" / main.read_text(errors="replace").strip()
        if wanted in revisions:
            return str(wanted)
    return " or ".join(map(str, revisions[:_SHOWN_SNAPSHOTS]))


def _base_model(directory: Path) -> str:
    try:
        settings = json.loads((directory / "adapter_config.json").read_bytes())
        name = settings["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = None
    return name if isinstance(name, str) and name.isprintable() else "another model"
