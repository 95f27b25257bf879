"""Finds a checkpoint's chat templates in the places where they may lie.

Does not read or render them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convert.config import read_optional_json
from convert.errors import DamagedCheckpoint, MissingFile


def load_chat_templates(directory: Path, tokenizer_config: dict[str, Any]) -> dict[str, str]:
    """Templates by name, "default" being the usual one;
    empty where the checkpoint has none.

    Newer places go before older ones: chat_template.jinja and
    additional_chat_templates/NAME.jinja, then chat_template.json, then `chat_template`
    in tokenizer_config.json, which is one template or a list of named ones.
    """
    templates = _from_config(tokenizer_config, "tokenizer_config.json")
    templates |= _from_config(
        read_optional_json(directory / "chat_template.json"), "chat_template.json"
    )
    for path in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = _read(path)
    path = directory / "chat_template.jinja"
    if path.exists():
        templates["default"] = _read(path)
    return templates


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DamagedCheckpoint(f"{path} is not UTF-8: {error}") from error


def _from_config(config: dict[str, Any], file_name: str) -> dict[str, str]:
    entry = config.get("chat_template")
    match entry:
        case None:
            return {}
        case str():
            return {"default": entry}
        case dict() if all(isinstance(text, str) for text in entry.values()):
            return {str(name): text for name, text in entry.items()}
        case list() if all(
            isinstance(item, dict) and {"name", "template"} <= item.keys() for item in entry
        ):
            return {str(item["name"]): str(item["template"]) for item in entry}
        case _:
            raise DamagedCheckpoint(
                f"{file_name} has a chat_template that is neither a string nor a list of named "
                "templates."
            )
