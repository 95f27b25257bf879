"""From a value as it is written to the value of an option, or what is wrong with it.

Knows no option by name and no source.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from appliance.errors import BadSettings
from appliance.settings.adapter_values import NamedAdapter
from appliance.settings.options import Option, OutOfRange, did_you_mean

ENV_PREFIX = "APPLIANCE_"


@dataclass(frozen=True)
class Declared:
    """One field of a settings class as every source sees it."""

    name: str
    option: Option
    default: object  # `MISSING` where it is computed

    @property
    def flag(self) -> str:
        return self.option.metavar if self.option.positional else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENV_PREFIX + self.name.upper()


@dataclass(frozen=True)
class Given:
    """A value as written, and where."""

    value: object
    origin: str  # the flag, the variable, or the key and its file
    base: Path | None = None  # what a relative path is relative to; None: the working directory
    is_joined: bool = True  # one text may hold several values, with commas between them
    is_flag: bool = False  # given for this run alone


def declared(settings: type) -> tuple[Declared, ...]:
    """The options of a settings dataclass, in the order of its fields."""
    return _declared(settings)


@cache  # every command asks anew, and reading the hints takes longer than all else of its start
def _declared(settings: type) -> tuple[Declared, ...]:
    hints = typing.get_type_hints(settings, include_extras=True)
    return tuple(
        Declared(
            field.name,
            next(m for m in hints[field.name].__metadata__ if isinstance(m, Option)),
            field.default,
        )
        for field in dataclasses.fields(settings)
    )


def parse_value(entry: Declared, given: Given, environ: Mapping[str, str]) -> object:
    option = entry.option
    if option.many:
        values = (_parse_one(entry, part, given, environ) for part in _parts(entry, given))
        return tuple(value for value in values if value is not None)
    return _parse_one(entry, _as_text(entry, given.value, given), given, environ)


def _parts(entry: Declared, given: Given) -> Iterable[str]:
    items = given.value if isinstance(given.value, list) else [given.value]
    for item in items:
        text = _as_text(entry, item, given)
        parts = text.split(entry.option.separator) if given.is_joined else [text]
        yield from (part.strip() for part in parts if part.strip())


def _as_text(entry: Declared, value: object, given: Given) -> str:
    """The value as a flag would have it: TOML's own true, 5 and 0.5 are as good as
    text, a table or date is not.

    Nor is a number where a path is meant: `models_dir = 5` was meant for another
    option.
    """
    if isinstance(value, (int, float)) and entry.option.parser.is_path:
        raise _bad_value(entry, given, value)
    if isinstance(value, bool):
        if not entry.option.switch:
            raise _bad_value(entry, given, value)
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise _bad_value(entry, given, value)


def _parse_one(entry: Declared, text: str, given: Given, environ: Mapping[str, str]) -> object:
    if entry.option.automatic and text.lower() == "auto":
        return None
    if entry.option.parser.is_path:
        text = expand_home(text, environ)
    try:
        value = entry.option.parser.read(text)
    except OutOfRange as error:
        raise _must_be(entry, given, str(error), text) from error
    except ValueError as error:
        raise _bad_value(entry, given, text) from error
    if given.base is None:
        return value
    if isinstance(value, NamedAdapter):
        return value.inside(given.base)
    endings = entry.option.parser.file_endings
    if endings and isinstance(value, str) and ("/" in value or value.endswith(endings)):
        return str(given.base / value)
    return given.base / value if isinstance(value, Path) else value


def _bad_value(entry: Declared, given: Given, value: object) -> BadSettings:
    parser = entry.option.parser
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    hint = did_you_mean(str(value).lower(), parser.choices)
    return _must_be(entry, given, parser.allowed, shown, hint)


def _must_be(
    entry: Declared, given: Given, allowed: str, shown: str, hint: str = ""
) -> BadSettings:
    or_auto = ", or auto" if entry.option.automatic else ""
    return BadSettings(f"{given.origin} must be {allowed}{or_auto} (got {shown}).{hint}")


def expand_home(text: str, environ: Mapping[str, str]) -> str:
    if not text.startswith("~/"):
        return text
    home = environ.get("HOME", "")
    if not home:
        raise BadSettings(f"{text}: HOME is not set, so '~' has no meaning. Give the full path.")
    return home + text[1:]


def check_names(given: Mapping[str, object], known: list[str], where: str) -> None:
    """Raises `BadSettings` for a name that is not known."""
    for name in given:
        if name not in known:
            near = did_you_mean(name, known)
            hint = near or f" The settings are: {', '.join(sorted(known))}."
            raise BadSettings(f"Unknown setting {name!r} {where}.{hint}")
