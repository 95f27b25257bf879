"""Names of models as Ollama writes them, `name:tag`, and ours.

Knows no model but by its name.

Where Ollama has a tag there is none here: `latest` is added to what is listed, and
taken off what is asked for. A model from a hub may be asked for as it was pulled.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.errors import ModelNotFound
from appliance.gateway.router import Models, ServedModel

_LATEST = ":latest"
_HUBS = ("https://", "http://", "hf.co/", "huggingface.co/")
_MAX_ECHOED_CHARS = 100

ModelName = Annotated[str, Field(max_length=256)]


def listed_name(model_id: str) -> str:
    """Of a model in lists: clients expect a tag."""
    return model_id if ":" in model_id else model_id + _LATEST


def readings(name: str) -> list[str]:
    """Our names that may be meant, the likeliest first."""
    plain = name.strip()
    for hub in _HUBS:
        plain = plain.removeprefix(hub)
    found = [name, plain, plain.removesuffix(_LATEST), f"{plain}{_LATEST}"]
    return [*dict.fromkeys(found)]


def find(models: Models, name: str | None) -> ServedModel | None:
    """None names the first model."""
    if not name:
        return models.models[0] if models.models else None
    for reading in readings(name):
        if (model := models.find(reading)) is not None:
            return model
    # names of a hub are the same in any case
    lower = {reading.lower() for reading in readings(name)}
    for model in models.models:
        if lower & {known.lower() for known in (model.id, *model.aliases)}:
            return model
    return None


def resolve(models: Models, name: str | None) -> ServedModel:
    """Raises `ModelNotFound`, in words that Ollama's clients look for."""
    model = find(models, name)
    if model is None:
        known = ", ".join(f"'{listed_name(each.id)}'" for each in models.models) or "none"
        shown = (name or "")[:_MAX_ECHOED_CHARS]
        raise ModelNotFound(f"model '{shown}' not found. There are: {known}.", param="model")
    return model
