"""What a model is on disk, before any of its files is read. Knows no way to find it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.store.hub_id import HubId


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model that was asked for:
    files that are there, or a checkpoint to convert, or both.
    """

    name: str
    directory: Path  # a checkpoint's files are converted into it
    files: tuple[Path, ...]
    checkpoint: Path | None = None
    types: tuple[str, ...] = ()  # quantizations to convert to; empty without a checkpoint
    hub: HubId | None = None  # the repository that was asked for, if one was

    @property
    def must_be_pulled(self) -> bool:
        """Whether it is a repository of which nothing is here."""
        return self.hub is not None and not self.files and self.checkpoint is None


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """One line of the list of models."""

    name: str
    description: str  # of the catalog, else where it comes from
    files: tuple[Path, ...]
    licence: str = ""  # as the catalog knows it
    way_to_get: str = ""  # a command; empty for what is here, or made of what is here
    alias_of: str = ""  # the model that this is another name of
