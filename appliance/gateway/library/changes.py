"""What is asked of a library that changes, and how far it has come.

Knows no file and no wire format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.gateway.library.facts import ModelDefaults


@dataclass(frozen=True)
class Progress:
    """What is going on, and how far it has come, where that is known."""

    text: str
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a model is to be made of: of another one, or of files that were sent before."""

    name: str
    base: str = ""  # a model here, a hub's `org/repo[:QUANT]`, or a path on this machine
    files: Mapping[str, str] = field(default_factory=dict)  # SHA-256 digests by file name
    quant: str | None = None  # that a checkpoint is converted to
    # what a base has is kept where these are empty
    defaults: ModelDefaults = field(default_factory=ModelDefaults)
    chat_template: str = ""  # Jinja
