"""What is known of a model without loading it. Knows no file and no wire format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MetadataValue = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model's file says of itself; empty where there is no file yet."""

    architecture: str = ""
    num_params: int = 0
    quantization: str = ""
    num_bytes: int = 0  # of its files
    digest: str = ""  # 64 hexadecimal digits that change with the file
    modified_s: float = 0.0  # Unix time
    licence: str = ""
    chat_template: str = ""  # Jinja
    fills_gaps: bool = False  # it was trained for what belongs between two texts
    embeds: bool = False
    train_ctx: int = 0  # tokens
    # of the file, lists left out: None stands for one
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelDefaults:
    """What requests to a model take where they do not say it themselves."""

    parent: str = ""  # the name of the model that it was made of
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)  # sampling, by Ollama's names
    messages: Sequence[Mapping[str, Any]] = ()  # that every conversation begins with
