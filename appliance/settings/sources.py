"""Values of declared options: flag, else APPLIANCE_ variable, else TOML key, else default.

Knows no option by name.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from appliance.errors import BadSettings
from appliance.settings.options import Option, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = TypeVar("Settings")

ENV_PREFIX = "APPLIANCE_"
CONFIG_VARIABLE = "APPLIANCE_CONFIG"
CONFIG_FILES = ("~/.config/appliance/appliance.toml", "/etc/appliance/appliance.toml")


@dataclass(frozen=True)
class Declared:
    """One field of a settings class as every source sees it; `default` is `MISSING`
    where it is computed.
    """

    name: str
    option: Option
    default: object

    @property
    def flag(self) -> str:
        return self.option.metavar if self.option.positional else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENV_PREFIX + self.name.upper()


@dataclass(frozen=True)
class _Given:
    """A value as written, and where: `origin` names the flag, the variable, or the key
    and its file.
    """

    value: object
    origin: str
    base: Path | None = None  # what a relative path is relative to; None: the working directory
    is_joined: bool = True  # one text may hold several values, with commas between them


def declared(settings: type) -> tuple[Declared, ...]:
    """The options of a settings dataclass, in the order of its fields."""
    hints = typing.get_type_hints(settings, include_extras=True)
    return tuple(
        Declared(
            field.name,
            next(m for m in hints[field.name].__metadata__ if isinstance(m, Option)),
            field.default,
        )
        for field in dataclasses.fields(settings)
    )


def add_flags(
    parser: argparse.ArgumentParser, settings: type, only: Collection[str] | None = None
) -> None:
    """Adds a flag per option (of those named by `only`, if given), and `--config`.

    Values stay text here: `load` parses every source alike. Options that are not given
    leave no attribute.
    """
    for entry in declared(settings):
        if only is not None and entry.name not in only:
            continue
        text = _help(entry).replace("%", "%%")
        if entry.option.positional:
            # A command that shows some options alone (fit, pull, rm) is about one
            # model.
            nargs = "*" if entry.option.many and only is None else "?"
            parser.add_argument(
                entry.name,
                nargs=nargs,
                metavar=entry.option.metavar,
                default=argparse.SUPPRESS,
                help=text,
            )
        elif entry.option.switch:
            parser.add_argument(
                entry.flag,
                dest=entry.name,
                action="store_const",
                const="true",
                default=argparse.SUPPRESS,
                help=text,
            )
        else:
            action = "append" if entry.option.many else "store"
            parser.add_argument(
                entry.flag,
                dest=entry.name,
                action=action,
                metavar=entry.option.metavar,
                default=argparse.SUPPRESS,
                help=text,
            )
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"TOML file with settings (default: {' or '.join(CONFIG_FILES)}, if there is one)",
    )


def default_text(entry: Declared) -> str:
    """The default in words, as help and docs show it; empty where there is none."""
    option = entry.option
    if option.automatic:
        return f"auto: {option.automatic}"
    if option.default_from is not None:
        return option.default_text
    if option.switch or entry.default in (None, ()):
        return ""
    if isinstance(entry.default, bool):
        return "on" if entry.default else "off"
    if option.metavar == "SIZE" and isinstance(entry.default, int):
        return f"{entry.default >> 20}MiB"
    return f"{entry.default:g}" if isinstance(entry.default, float) else str(entry.default)


def load(
    settings: type[Settings], flags: Mapping[str, object], environ: Mapping[str, str]
) -> Settings:
    """The settings as given, each option from its first source.

    `flags` holds what `add_flags` parsed (`vars(namespace)`; other names are ignored).
    Raises `BadSettings` that names the flag, variable, or key and file at fault, and
    what is allowed.
    """
    entries = declared(settings)
    table, file = _read_config(flags, environ)
    _check_names(table, [e.name for e in entries], f"in {file}")
    variables = {name: value for name, value in environ.items() if name.startswith(ENV_PREFIX)}
    _check_names(variables, [CONFIG_VARIABLE, *(e.variable for e in entries)], "in the environment")
    values: dict[str, object] = {}
    for entry in entries:
        given = _find(entry, flags, variables, table, file)
        if given is not None:
            values[entry.name] = _parse(entry, given, environ)
        elif entry.option.default_from is not None:
            values[entry.name] = entry.option.default_from(environ)
    return settings(**values)


def _help(entry: Declared) -> str:
    default = default_text(entry)
    return f"{entry.option.help} (default: {default})" if default else entry.option.help


def _find(
    entry: Declared,
    flags: Mapping[str, object],
    variables: Mapping[str, str],
    table: Mapping[str, object],
    file: Path | None,
) -> _Given | None:
    # a path may have commas in its name; a variable has no other way
    is_joined = not entry.option.positional
    if entry.name in flags:
        return _Given(flags[entry.name], entry.flag, is_joined=is_joined)
    # an empty variable counts as unset, as in most service managers' files
    if variables.get(entry.variable):
        return _Given(variables[entry.variable], entry.variable)
    if entry.name in table and file is not None:
        return _Given(
            table[entry.name], f"{entry.name} in {file}", base=file.parent, is_joined=is_joined
        )
    return None


def _parse(entry: Declared, given: _Given, environ: Mapping[str, str]) -> object:
    option = entry.option
    if option.many:
        values = (_parse_one(entry, part, given, environ) for part in _parts(entry, given))
        return tuple(value for value in values if value is not None)
    return _parse_one(entry, _as_text(entry, given.value, given), given, environ)


def _parts(entry: Declared, given: _Given) -> Iterable[str]:
    items = given.value if isinstance(given.value, list) else [given.value]
    for item in items:
        text = _as_text(entry, item, given)
        parts = text.split(",") if given.is_joined else [text]
        yield from (part.strip() for part in parts if part.strip())


def _as_text(entry: Declared, value: object, given: _Given) -> str:
    """The value as a flag would have it: TOML's own true, 5 and 0.5 are as good as
    text, a table or date is not.

    Nor is a number where a path is meant: whoever writes `models_dir = 5` has mistaken
    the option.
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


def _parse_one(entry: Declared, text: str, given: _Given, environ: Mapping[str, str]) -> object:
    if entry.option.automatic and text.lower() == "auto":
        return None
    if entry.option.parser.is_path:
        text = _expand_home(text, environ)
    try:
        value = entry.option.parser.read(text)
    except ValueError as error:
        raise _bad_value(entry, given, text) from error
    return given.base / value if isinstance(value, Path) and given.base is not None else value


def _bad_value(entry: Declared, given: _Given, value: object) -> BadSettings:
    parser = entry.option.parser
    or_auto = ", or auto" if entry.option.automatic else ""
    hint = did_you_mean(str(value).lower(), parser.choices)
    return BadSettings(
        f"{given.origin}: {str(value)!r} is not allowed, but {parser.allowed}{or_auto} is.{hint}"
    )


def _expand_home(text: str, environ: Mapping[str, str]) -> str:
    if not text.startswith("~/"):
        return text
    home = environ.get("HOME", "")
    if not home:
        raise BadSettings(f"{text}: HOME is not set, so ~ means nothing. Give the whole path.")
    return home + text[1:]


def _read_config(
    flags: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[dict[str, object], Path | None]:
    named = flags.get("config") or environ.get(CONFIG_VARIABLE)
    if named:
        return _read_toml(Path(_expand_home(str(named), environ)))
    for candidate in CONFIG_FILES:
        if candidate.startswith("~") and not environ.get("HOME"):
            continue
        path = Path(_expand_home(candidate, environ))
        if path.is_file():
            return _read_toml(path)
    return {}, None


def _read_toml(path: Path) -> tuple[dict[str, object], Path]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path.absolute()
    except OSError as error:
        raise BadSettings(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise BadSettings(f"The settings file {path} is not TOML: {error}.") from error


def _check_names(given: Mapping[str, object], known: list[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise BadSettings(
                f"{name} {where} is no setting.{did_you_mean(name, known)} Known are: "
                f"{', '.join(sorted(known))}."
            )
