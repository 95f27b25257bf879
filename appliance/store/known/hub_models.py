"""The models of hubs that have a name here (models/hub.toml): what they are, how large.

Knows no hub, no models directory, and no machine.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.errors import SetupError
from appliance.store.catalog import catalog_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHAT, EMBEDDING, RERANK = "chat", "embedding", "rerank"
KINDS = (CHAT, "code", "reasoning", "vision", EMBEDDING, RERANK)
_REQUIRED: dict[str, type] = {"name": str, "repository": str, "revision": str, "kind": str}
_REQUIRED |= {"licence": str, "languages": list, "parameters": int, "sizes_gib": dict}
_OPTIONAL: dict[str, type] = {"active_parameters": int, "ctx": int, "ollama": list, "note": str}


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model of a hub, as its catalogue entry has it."""

    name: str  # by which it can be pulled and served
    repository: str
    revision: str  # a commit that is known to hold these files, else `main`
    kind: str  # of `KINDS`
    licence: str
    languages: tuple[str, ...]  # the main ones, as ISO 639-1 has them
    parameters: int
    active_parameters: int  # those read for each token
    ctx: int | None  # tokens that it was trained for; None: not confirmed
    sizes: Mapping[str, int]  # bytes by quantization, rounded; the smallest first
    ollama: tuple[str, ...] = ()  # what Ollama's library calls it
    note: str = ""  # on its template, where that matters to a client

    @property
    def generates(self) -> bool:
        return self.kind not in (EMBEDDING, RERANK)

    def bytes_per_token(self, quantization: str) -> int:
        """What is read of the weights for one token, by and large."""
        return round(self.sizes[quantization] * self.active_parameters / self.parameters)


@functools.cache
def load_hub_models(file: Path | None = None) -> tuple[HubModel, ...]:
    """In the file's order: by kind, the smallest first.

    Raises `SetupError` naming the file and what is wrong with it.
    """
    path = catalog_file().with_name("hub.toml") if file is None else file
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return tuple(_model(row) for row in content["model"])
    except OSError as error:
        raise SetupError(
            f"The catalog of hub models {path} cannot be read: {error.strerror}. Install the "
            "appliance again."
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise SetupError(
            f"The catalog of hub models {path} is invalid: {error}. Correct it, or install the "
            "appliance again."
        ) from error


def _model(row: dict[str, Any]) -> HubModel:
    for key, value in row.items():
        if not isinstance(value, (_REQUIRED | _OPTIONAL).get(key, type(None))):
            raise TypeError(f"{key} = {value!r}")
    missing = sorted(_REQUIRED.keys() - row.keys())
    if missing:
        raise KeyError(missing[0])
    if row["kind"] not in KINDS:
        raise ValueError(f"kind = {row['kind']!r}")
    sizes = {quant: round(gib * 2**30) for quant, gib in row["sizes_gib"].items()}
    return HubModel(
        name=row["name"],
        repository=row["repository"],
        revision=row["revision"],
        kind=row["kind"],
        licence=row["licence"],
        languages=tuple(row["languages"]),
        parameters=row["parameters"],
        active_parameters=row.get("active_parameters", row["parameters"]),
        ctx=row.get("ctx"),
        sizes=dict(sorted(sizes.items(), key=lambda item: item[1])),
        ollama=tuple(row.get("ollama", ())),
        note=row.get("note", ""),
    )
