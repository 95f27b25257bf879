"""The catalog of models known by name (models/catalog.toml).

Knows no models directory and converts nothing.
"""

from __future__ import annotations

import fnmatch
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import SetupError
from appliance.store.packaged import PackagedFile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = {"name": str, "description": str, "default": bool, "fallback": bool, "licence": str}
_KEYS |= {"draft": str, "only_drafts": bool}
_CHECKPOINT = {"checkpoint": str, "types": list}
_PACKAGE = {"package": str, "file": str, "bytes": int, "sha256": str}
# what others append to the name of what they convert
_CONVERTED = re.compile(r"[-.](gguf|q\d\w*)$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A model known by name: a checkpoint to convert, or a package's file."""

    name: str
    description: str
    licence: str = ""
    checkpoint: Path | None = None  # that it is converted from
    types: tuple[str, ...] = ()  # quantizations that it is offered in, if it is converted
    packaged: PackagedFile | None = None
    draft: str | None = None  # name of a smaller one that can draft for it
    only_drafts: bool = False  # not offered to be served


@dataclass(frozen=True)
class Sibling:
    """The model that can draft for some hub repositories."""

    of: str  # pattern of their names
    draft: str  # as a MODEL argument


@dataclass(frozen=True)
class ModelForAgents:
    """A model of a hub that calls functions well and was trained for long contexts."""

    name: str  # as a MODEL argument
    ctx: int  # tokens that it was trained for


@dataclass(frozen=True)
class Catalog:
    """All known models; `default` is the one served when none is named.

    `fallback` is served where that is not here, and the CPU paths are tested with it:
    its checkpoint travels with us.
    """

    entries: tuple[CatalogEntry, ...]
    default: CatalogEntry
    fallback: CatalogEntry
    siblings: tuple[Sibling, ...] = ()
    for_agents: tuple[ModelForAgents, ...] = ()  # the smallest first

    def find(self, name: str) -> CatalogEntry | None:
        return next((entry for entry in self.entries if entry.name == name), None)

    def find_checkpoint(self, checkpoint: Path) -> CatalogEntry | None:
        """The entry that is converted from this directory, however it is spelled."""
        wanted = checkpoint.resolve()
        return next(
            (
                entry
                for entry in self.entries
                if entry.checkpoint is not None and entry.checkpoint.resolve() == wanted
            ),
            None,
        )

    def draft_of(self, name: str) -> str | None:
        """A smaller model, as a MODEL argument, that can draft for this entry or hub
        repository (`org/repo`).
        """
        entry = self.find(name)
        if entry is not None:
            return entry.draft
        model = _CONVERTED.sub("", name.rpartition("/")[2])
        found = next((s.draft for s in self.siblings if fnmatch.fnmatchcase(model, s.of)), None)
        # Nobody drafts for itself.
        is_itself = (
            found is not None
            and _CONVERTED.sub("", found.partition(":")[0].rpartition("/")[2]) == model
        )
        return None if is_itself else found


def catalog_file() -> Path:
    """In a source tree beside the package, in an installation under PREFIX/share.

    Raises `SetupError` if in neither.
    """
    candidates = (
        Path(__file__).resolve().parents[2] / "models" / "catalog.toml",
        Path(sysconfig.get_path("data")) / "share" / "appliance" / "models" / "catalog.toml",
    )
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise SetupError(
        f"The model catalog is missing: neither {candidates[0]} nor {candidates[1]} exists. "
        "Install the appliance again."
    )


def load_catalog(file: Path | None = None) -> Catalog:
    """Reads the catalog.

    Raises `SetupError` naming the file and what is wrong with it.
    """
    path = catalog_file() if file is None else file
    try:
        catalog = tomllib.loads(path.read_text(encoding="utf-8"))
        rows = catalog["model"]
        siblings = tuple(
            Sibling(str(row["of"]), str(row["draft"])) for row in catalog.get("sibling", [])
        )
        for_agents = tuple(
            ModelForAgents(str(row["name"]), int(row["ctx"]))
            for row in catalog.get("agent_model", [])
        )
        entries = tuple(_entry(row, path) for row in rows)
        default, fallback = (_marked(mark, entries, rows) for mark in ("default", "fallback"))
    except OSError as error:
        raise SetupError(
            f"The model catalog {path} cannot be read: {error.strerror}. Check its permissions."
        ) from error
    except (
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # not TOML, no [[model]], a bad row, or not just one default
        raise SetupError(
            f"The model catalog {path} is invalid: {error}. Correct it, or install the appliance "
            "again."
        ) from error
    return Catalog(entries, default, fallback, siblings=siblings, for_agents=for_agents)


def _marked(
    mark: str, entries: tuple[CatalogEntry, ...], rows: list[dict[str, object]]
) -> CatalogEntry:
    (entry,) = (entry for entry, row in zip(entries, rows, strict=True) if row.get(mark, False))
    return entry


def _entry(row: dict[str, object], path: Path) -> CatalogEntry:
    keys = _KEYS | (_PACKAGE if "package" in row else _CHECKPOINT)
    for key, value in row.items():
        if key not in keys or not isinstance(value, keys[key]):
            raise ValueError(f"{key} = {value!r}")
    types = row.get("types", [])
    assert isinstance(types, list)
    return CatalogEntry(
        name=str(row["name"]),
        description=str(row["description"]),
        licence=str(row.get("licence", "")),
        checkpoint=None if "package" in row else path.parent / str(row["checkpoint"]),
        types=tuple(str(name).upper() for name in types),
        packaged=_packaged(row) if "package" in row else None,
        draft=str(row["draft"]) if "draft" in row else None,
        only_drafts=bool(row.get("only_drafts", False)),
    )


def _packaged(row: dict[str, object]) -> PackagedFile:
    num_bytes = row["bytes"]
    assert isinstance(num_bytes, int)
    return PackagedFile(
        package=str(row["package"]),
        file=str(row["file"]),
        num_bytes=num_bytes,
        sha256=str(row["sha256"]),
    )
