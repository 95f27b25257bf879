"""What one model's launch takes from the settings.

Knows no server and no other model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import BadSettings
from appliance.launch.adapters import NamedAdapterFile
from appliance.settings import ModelSettings


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model as it is named, and what is set for it."""

    argument: str  # a name, a path or org/repo[:QUANT]
    settings: ModelSettings
    models_dir: Path
    state_dir: Path  # where results of measurements are remembered
    ram: int | None = None  # bytes that everything together may take; None: what is free
    max_body_bytes: int | None = None  # of a request; None: as the context needs
    log_level: str = "info"
    log_format: str = "text"
    confine: str = "auto"
    adapters: tuple[NamedAdapterFile, ...] = ()
    ctx_is_most: bool = False  # `settings.ctx` is of all models, whatever each was trained for

    def named(self, argument: str) -> ModelSpec:
        """Another model in the same places, in any quantization, without a draft and adapters."""
        settings = replace(self.settings, quant=None, draft="off")
        return replace(self, argument=argument, settings=settings, adapters=())

    def to_bytes(self) -> bytes:
        """For a child process: MessagePack.

        Raises `BadSettings` for a name that is not UTF-8.
        """
        try:
            return msgspec.msgpack.encode(self, enc_hook=_plain)
        except UnicodeEncodeError as error:
            raise BadSettings(
                f"{error.object!r} is not valid UTF-8, which names of models and directories must "
                "be. Rename it."
            ) from error

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelSpec:
        """Raises `msgspec.DecodeError`."""
        return msgspec.msgpack.decode(data, type=cls, dec_hook=_path)


def _plain(value: Any) -> str:
    assert isinstance(value, Path), value
    return str(value)


def _path(wanted: type, value: Any) -> Path:
    assert wanted is Path, wanted
    return Path(value)
