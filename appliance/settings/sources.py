"""Values of declared options:
flag, else APPLIANCE_ variable, else TOML key, else default.

Knows no option by name.
"""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from appliance.errors import BadSettings
from appliance.settings.options import Assignment
from appliance.settings.per_model import MODELS_TABLE, read_assignments, read_tables
from appliance.settings.values import (
    ENV_PREFIX,
    Declared,
    Given,
    check_names,
    declared,
    expand_home,
    parse_value,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = TypeVar("Settings")

CONFIG_VARIABLE = "APPLIANCE_CONFIG"
DEBUG_VARIABLE = "APPLIANCE_DEBUG"
CONFIG_FILES = ("~/.config/appliance/appliance.toml", "/etc/appliance/appliance.toml")


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
        help=f"TOML file with settings (default: the first that exists of "
        f"{' and '.join(CONFIG_FILES)})",
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
    settings: type[Settings],
    flags: Mapping[str, object],
    environ: Mapping[str, str],
) -> Settings:
    """The settings as given, each option from its first source.

    `flags` holds what `add_flags` parsed (`vars(namespace)`; other names are ignored).
    Where the class names, in `per_model`, what may be set for one model, that is read
    from TOML tables `[models.NAME]` and the option `set` too. Raises `BadSettings` that
    names the flag, variable, or key and file at fault, and what is allowed.
    """
    return load_table(settings, *_read_config(flags, environ), flags=flags, environ=environ)


def load_table(
    settings: type[Settings],
    table: dict[str, object],
    file: Path | None,
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
) -> Settings:
    """`load`, where `file` has been read, and holds `table`: paths in it are relative to its
    folder. Raises what `load` raises.
    """
    entries, per_model = declared(settings), getattr(settings, "per_model", None)
    tables = table.pop(MODELS_TABLE, {}) if per_model is not None else {}
    check_names(table, [e.name for e in entries], f"in {file}")
    variables = {name: value for name, value in environ.items() if name.startswith(ENV_PREFIX)}
    known = [CONFIG_VARIABLE, DEBUG_VARIABLE, *(e.variable for e in entries)]
    check_names(variables, known, "in the environment")
    values: dict[str, object] = {}
    sources: dict[str, Given] = {}
    for entry in entries:
        given = _find(entry, flags, variables, table, file)
        if given is not None:
            values[entry.name] = parse_value(entry, given, environ)
            sources[entry.name] = given
        elif entry.option.default_from is not None:
            values[entry.name] = entry.option.default_from(environ)
    if per_model is not None:
        assignments = typing.cast("tuple[Assignment, ...]", values.get("set", ()))
        values["set"] = (
            *read_tables(per_model, tables, file, environ),
            *read_assignments(per_model, assignments, sources.get("set"), environ),
        )
    return settings(**values)


def _help(entry: Declared) -> str:
    default = default_text(entry)
    if not default:
        return entry.option.help
    colon = "" if entry.option.automatic else ":"  # that of "auto: ..." is enough
    return f"{entry.option.help} (default{colon} {default})"


def _find(
    entry: Declared,
    flags: Mapping[str, object],
    variables: Mapping[str, str],
    table: Mapping[str, object],
    file: Path | None,
) -> Given | None:
    # a path may have commas in its name; a variable has no other way
    is_joined = not entry.option.positional
    if entry.name in flags:
        return Given(flags[entry.name], entry.flag, is_joined=is_joined, is_flag=True)
    # an empty variable counts as unset, as in most service managers' files
    if variables.get(entry.variable):
        return Given(variables[entry.variable], entry.variable)
    if entry.name in table and file is not None:
        return Given(
            table[entry.name], f"{entry.name} in {file}", base=file.parent, is_joined=is_joined
        )
    return None


def _read_config(
    flags: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[dict[str, object], Path | None]:
    named = flags.get("config") or environ.get(CONFIG_VARIABLE)
    if named:
        return read_toml(Path(expand_home(str(named), environ)))
    for candidate in CONFIG_FILES:
        if candidate.startswith("~") and not environ.get("HOME"):
            continue
        path = Path(expand_home(candidate, environ))
        if path.is_file():
            return read_toml(path)
    return {}, None


def read_toml(path: Path) -> tuple[dict[str, object], Path]:
    """What it holds, and its absolute path. Raises `BadSettings`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path.absolute()
    except OSError as error:
        raise BadSettings(f"Cannot read the settings file {path}: {error.strerror}.") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise BadSettings(f"The settings file {path} is not valid TOML: {error}.") from error
