"""Models that were made of others, and names of one's own for them, as they are remembered:
a small file for each in a hidden folder of the models directory.

Knows no server and no GGUF.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import msgspec

from appliance.errors import BadRequest, SetupError
from appliance.gateway.library.facts import ModelDefaults

_FOLDER = ".created"
_LATEST = ":latest"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+){0,2}(?::[\w.-]+)?", re.A)
_MAX_NAME_CHARS = 80
AUTO, NO_PRELOAD = "auto", "none"  # words that stand where names of models do


@dataclass(frozen=True, kw_only=True)
class CreatedModel:
    """What is remembered of one."""

    name: str
    argument: str  # as a model is named on the command line
    quant: str | None = None
    defaults: ModelDefaults = field(default_factory=ModelDefaults)
    chat_template: str = ""  # the path of a file, or a name


class CreatedModels:
    """All of a models directory."""

    def __init__(self, models_dir: Path) -> None:
        self._folder = models_dir / _FOLDER

    def read(self) -> list[CreatedModel]:
        """Those that can be read, in order of their names."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                found.append(msgspec.json.decode(path.read_bytes(), type=CreatedModel))
        return found

    def find(self, name: str) -> CreatedModel | None:
        """By its name, with `:latest` behind it or without."""
        plain = name.removesuffix(_LATEST)
        return next((model for model in self.read() if model.name == plain), None)

    def template_path(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.jinja"

    def write(self, model: CreatedModel, chat_template: str = "") -> None:
        """With the source of its own template, where it has one. Raises `SetupError`."""
        path = self._path(model.name)
        temporary = path.with_suffix(".partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if chat_template:
                self.template_path(model.name).write_text(chat_template, encoding="utf-8")
            temporary.write_bytes(msgspec.json.encode(model))
            temporary.replace(path)
        except OSError as error:
            raise SetupError(
                f"{self._folder} cannot be written: {error.strerror}. Check its permissions and "
                "the disk."
            ) from error

    def forget(self, name: str) -> None:
        for path in (self._path(name), self.template_path(name)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.json"


def new_name(name: str, param: str = "model") -> str:
    """Of a model to be made, without `:latest`. Raises `BadRequest`."""
    plain = name.removesuffix(_LATEST)
    if not _NAME.fullmatch(plain) or len(plain) > _MAX_NAME_CHARS or ".." in plain:
        raise BadRequest(
            f"Invalid '{param}': a name has letters, digits, '.', '_' and '-', perhaps a tag "
            f"behind ':', and at most {_MAX_NAME_CHARS} characters.",
            param=param,
        )
    if plain in (AUTO, NO_PRELOAD):
        raise BadRequest(
            f"Invalid '{param}': {plain} is a word with a meaning of its own. Choose another name.",
            param=param,
        )
    return plain
