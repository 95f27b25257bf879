"""What is set for one model alone: `[models.NAME]` in TOML, `--set NAME:key=value`.

Knows no option by name, and not which models there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import BadSettings
from appliance.settings.options import Assignment
from appliance.settings.values import Given, check_names, declared, parse_value

MODELS_TABLE = "models"


@dataclass(frozen=True)
class ModelValue:
    """One option of one model."""

    model: str  # its id, or as it is named to us
    key: str  # a field of the settings of a model
    value: object
    # the flag, the variable, or the table or key and its file
    origin: str = field(default="--set", compare=False)
    is_flag: bool = field(default=True, compare=False)


def read_tables(
    per_model: type, tables: object, file: Path | None, environ: Mapping[str, str]
) -> Iterator[ModelValue]:
    """Raises `BadSettings` for a key that no model has,
    or a value that is not allowed.
    """
    if not tables:
        return
    assert file is not None, "tables come from a file"
    if not isinstance(tables, Mapping):
        raise BadSettings(f"models in {file} must be tables, such as [models.gemma-3-4b].")
    for model, table in tables.items():
        where = f"in {_header(model)} of {file}"
        if not isinstance(table, Mapping):
            raise BadSettings(
                f"{model} in [{MODELS_TABLE}] of {file} must be a table of settings: "
                f"{_header(model)}."
            )
        _check_quotes(model, table, file)
        check_names(table, _names(per_model), where)
        for key, value in table.items():
            parsed = _parse(per_model, key, Given(value, f"{key} {where}", file.parent), environ)
            yield ModelValue(model, key, parsed, f"{_header(model)} of {file}", is_flag=False)


def read_assignments(
    per_model: type,
    assignments: Sequence[Assignment],
    source: Given | None,
    environ: Mapping[str, str],
) -> Iterator[ModelValue]:
    """`source` is where all of them were given.

    Raises `BadSettings` for a key that no model has, or a value that is not allowed.
    """
    for one in assignments:
        assert source is not None, "assignments come from somewhere"
        name = f"{one.model}:{one.key}"
        origin = f"{source.origin} {name}" if source.base is None else f"{name} of {source.origin}"
        check_names({one.key: one.text}, _names(per_model), f"in {origin}")
        parsed = _parse(per_model, one.key, Given(one.text, origin, source.base), environ)
        yield ModelValue(one.model, one.key, parsed, origin, is_flag=source.is_flag)


def _header(model: str) -> str:
    """A table's first line, with quotes where TOML needs them."""
    is_bare = re.fullmatch(r"[A-Za-z0-9_-]+", model) is not None
    name = model if is_bare else f'"{model}"'
    return f"[{MODELS_TABLE}.{name}]"


def _check_quotes(model: str, table: Mapping[str, object], file: Path) -> None:
    """To TOML, a dot in a name without quotes begins a table within the table."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            raise BadSettings(
                f"[{MODELS_TABLE}.{model}.{key}] in {file} is a table within a table. A name with "
                f"dots needs quotes: {_header(f'{model}.{key}')}."
            )


def _names(per_model: type) -> list[str]:
    return [entry.name for entry in declared(per_model)]


def _parse(per_model: type, key: str, given: Given, environ: Mapping[str, str]) -> object:
    entry = next(entry for entry in declared(per_model) if entry.name == key)
    return parse_value(entry, given, environ)
