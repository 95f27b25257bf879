"""Well-known chat templates by name, and those in files.

Knows no model, and compiles nothing.

The names are those of llama.cpp's `--chat-template`; the texts are our own.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from appliance.errors import BadSettings

FILE_MARKS = ("/", "\\", ".jinja", ".j2", ".txt")  # a value with one of these is a path
_MAX_BYTES = 1 << 20
_FOLDER = Path(__file__).parent
_OTHER_NAMES = {
    "mistral": "mistral-v3",
    "llama-2": "llama2-sys",
    "llama-3": "llama3",
    "phi-3": "phi3",
    "phi-4": "phi4",
    "deepseek-v3": "deepseek3",
}


def template_names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.jinja"))


def read_chat_template(value: str) -> str:
    """The Jinja source that `--chat-template` names.

    Raises `BadSettings` for a name that is not known, and a file that cannot be read.
    """
    path = Path(value)
    if any(mark in value for mark in FILE_MARKS) or path.is_file():
        return _read(path)
    names = template_names()
    name = _OTHER_NAMES.get(value.lower(), value.lower())
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise BadSettings(
            f"--chat-template must be a file, or one of {', '.join(names)} (got {value!r}).{hint}"
        )
    return _read(_FOLDER / f"{name}.jinja")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadSettings(
                f"--chat-template {path} is larger than {_MAX_BYTES >> 20} MiB: it is no template."
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadSettings(
            f"--chat-template {path} cannot be read: {error.strerror}. Name a Jinja file, or one "
            f"of {', '.join(template_names())}."
        ) from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"--chat-template {path} is not UTF-8: {error}") from error
    if not text.strip():
        raise BadSettings(f"--chat-template {path} is empty.")
    return text
