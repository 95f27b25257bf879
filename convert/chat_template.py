"""Finds a checkpoint's chat templates in the places where they may lie. Does not read or render them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convert.errors import DamagedCheckpoint


def load_chat_templates(directory: Path, tokenizer_config: dict[str, Any]) -> dict[str, str]:
    """Templates by name, "default" being the usual one; empty where the checkpoint has none.

    chat_template.jinja, the newer place, goes before `chat_template` in tokenizer_config.json, which is one template or
    a list of named ones.
    """
    templates = _from_config(tokenizer_config.get("chat_template"))
    path = directory / "chat_template.jinja"
    if path.exists():
        try:
            templates["default"] = path.read_text(encoding="utf-8")
        except ValueError as error:
            raise DamagedCheckpoint(f"{path} is not UTF-8: {error}") from error
    return templates


def _from_config(entry: Any) -> dict[str, str]:
    match entry:
        case None:
            return {}
        case str():
            return {"default": entry}
        case list() if all(isinstance(item, dict) and {"name", "template"} <= item.keys() for item in entry):
            return {str(item["name"]): str(item["template"]) for item in entry}
        case _:
            raise DamagedCheckpoint("tokenizer_config.json has a chat_template that is neither text nor a list.")
