"""JSON files of a checkpoint and typed access to config.json in its two layouts.

Knows no model family.

Older checkpoints write `torch_dtype`, `rope_theta` and `rope_scaling`; transformers 5
writes `dtype` and gathers the rope settings in `rope_parameters`. Both are read as the
newer one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import DamagedCheckpoint, MissingFile
from convert.source.folder import not_json

_MAX_INTEGER = (1 << 31) - 1  # as which a GGUF holds sizes
_MAX_NUMBER = 3e38  # of float32, as which a GGUF holds numbers
_ROPE_KEYS_OUTSIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, with a byte order mark before it or not.

    Raises `MissingFile` or `DamagedCheckpoint`.
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text)
    except FileNotFoundError:
        raise MissingFile(f"{path} is missing.") from None
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise not_json(path, text, error) from error
    if not isinstance(content, dict):
        raise DamagedCheckpoint(f"{path} is not a JSON object.")
    return content


def read_optional_json(path: Path) -> dict[str, Any]:
    """As `read_json`, with an absent file read as an empty object."""
    return read_json(path) if path.exists() else {}


def whole(value: Any) -> Any:
    """An integer for a number such as 128.0, which some programs write for it; else
    `value` as it is.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Config:
    """config.json, or an object inside it."""

    path: str  # where it is, for messages
    values: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number above zero that a GGUF can hold; also written as 128.0.

        Raises `DamagedCheckpoint` if it is absent without default, or anything else.
        """
        value = whole(self._get(key, default))
        if type(value) is not int or not 0 < value <= _MAX_INTEGER:
            raise DamagedCheckpoint(
                f"{self.path} has {key} = {value!r}; it must be a whole number from 1 to "
                f"{_MAX_INTEGER}."
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number above zero. Raises as `integer` does."""
        value = self._get(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value < _MAX_NUMBER
        ):
            raise DamagedCheckpoint(
                f"{self.path} has {key} = {value!r}; it must be a number above 0 and below "
                f"{_MAX_NUMBER:g}."
            )
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """A switch, `default` where it is left out; null is off, as it is to transformers.

        Raises `DamagedCheckpoint` if it is anything else.
        """
        value = self.given(key, default)
        if not isinstance(value, bool):
            raise DamagedCheckpoint(f"{self.path} has {key} = {value!r}; it must be true or false.")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise DamagedCheckpoint(f"{self.path} has {key} = {value!r}; it must be a string.")
        return value

    def given(self, key: str, default: Any) -> Any:
        """The value of `key`, `default` where it is left out. Null is off where `default` is
        a switch, as it is to transformers; of anything else it is left out.
        """
        value = self.values.get(key)
        if value is not None:
            return value
        return False if self._is_off(key, default) else default

    def _is_off(self, key: str, default: Any) -> bool:
        return isinstance(default, bool) and self.values.get(key, default) is None

    @property
    def architectures(self) -> list[str]:
        """The model classes that `architectures` names, in its order; it may be absent."""
        names = self.values.get("architectures")
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    @property
    def rope(self) -> Config:
        """The rope settings of either layout: `rope_type`, `rope_theta` and the
        scaling's own numbers.

        Where layers differ, those of the layers with full attention. Where both layouts
        are there, `rope_scaling` was added to a checkpoint, as model cards advise.
        """
        values = {key: self.values[key] for key in _ROPE_KEYS_OUTSIDE if key in self}
        for key in ("rope_parameters", "rope_scaling"):
            section = self._section(key)
            full = section.get("full_attention")
            chosen = full if isinstance(full, dict) else section
            # null means left out, here as everywhere
            given = {name: value for name, value in chosen.items() if value is not None}
            if "type" in given:
                given.setdefault("rope_type", given["type"])
            values.update(given)
        values.setdefault("rope_type", "default")
        return Config(f"{self.path} (rope)", values)

    @property
    def sliding_rope(self) -> Config:
        """The rope settings of the layers with a sliding window, where a config gives
        them their own; else empty.
        """
        section = self._section("rope_parameters").get("sliding_attention")
        values = dict(section) if isinstance(section, dict) else {}
        if "rope_local_base_freq" in self:  # the older layout of Gemma 3
            values.setdefault("rope_theta", self.values["rope_local_base_freq"])
        values.setdefault("rope_type", "default")
        return Config(f"{self.path} (rope of sliding layers)", values)

    def section(self, key: str) -> Config:
        """The object at `key`, empty where absent.

        Raises `DamagedCheckpoint` if it is anything else.
        """
        return Config(f"{self.path} ({key})", self._section(key))

    def with_defaults(self, defaults: Mapping[str, Any]) -> Config:
        """This config, with `defaults` for what it leaves out; null as `given` reads it."""
        filled = {key: self.given(key, value) for key, value in defaults.items()}
        kept = {key: None for key in filled if self._is_off(key, defaults[key])}
        return Config(self.path, {**self.values, **filled, **kept})

    def without(self, *keys: str) -> Config:
        return Config(self.path, {k: v for k, v in self.values.items() if k not in keys})

    def renamed(self, keys: Mapping[str, str]) -> Config:
        """This config, with the value of each of the values of `keys` under its key."""
        named = {new: self.values[old] for new, old in keys.items() if old in self.values}
        return Config(self.path, {**self.values, **named}) if named else self

    def _section(self, key: str) -> dict[str, Any]:
        section = self.values.get(key) or {}
        if not isinstance(section, dict):
            raise DamagedCheckpoint(f"{self.path} has {key} = {section!r}; it must be an object.")
        return section

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        value = default if value is None else value
        if value is None:
            raise DamagedCheckpoint(f"{self.path} has no {key}.")
        return value
