"""What a name means on a hub: a repository's own, one of the catalog, one of Ollama's.

Asks no hub, and knows no models directory.
"""

from __future__ import annotations

import difflib
import re

from appliance.store.hub_id import HubId, parse_hub_id
from appliance.store.known.hub_models import HubModel, load_hub_models

_NEWEST = "main"  # an entry's that holds for the newest commit
_OLLAMA_LIBRARY = re.compile(
    r"(?:https?://)?(?:registry\.)?ollama\.(?:com|ai)/library/(?P<name>[^/]+)/?"
)
# A tag of Ollama's library that names a quantization too: 3b-instruct-q4_K_M.
_OLLAMA_TAG = re.compile(r"(?P<name>.+?)(?:-(?:instruct|it|text|chat))?-(?P<quant>i?q\d\w*)", re.I)
_CHOICE = re.compile(r"(?P<name>[^:/]+):(?P<quant>(?:UD-)?(?:I?Q\d\w*|MXFP4\w*))", re.I | re.A)


def find_repository(text: str) -> HubId | None:
    """The repository that `text` means, and which of its files; None where it means none.

    `org/repo[@REVISION][:CHOICE]` and its address; a name of the catalog, with a
    quantization behind a colon or without; a name of Ollama's library that the catalog has.
    """
    return parse_hub_id(text) or _known(text)


def find_model(name: str) -> HubModel | None:
    """The catalog's model of that name, or of that name in Ollama's library."""
    plain = name.lower().removesuffix(":latest")
    return next(
        (model for model in load_hub_models() if plain == model.name or plain in model.ollama),
        None,
    )


def near_names(text: str) -> list[str]:
    """Up to three names of the catalog that `text` may have meant."""
    library = _OLLAMA_LIBRARY.fullmatch(text)
    plain = text if library is None else library["name"]
    names = {spelling for model in load_hub_models() for spelling in (model.name, *model.ollama)}
    return difflib.get_close_matches(plain.lower(), sorted(names), n=3)


def _known(text: str) -> HubId | None:
    library = _OLLAMA_LIBRARY.fullmatch(text)
    name = text if library is None else library["name"]
    model = find_model(name)
    if model is not None:
        return HubId(model.repository, revision=_pinned(model))
    for pattern in (_CHOICE, _OLLAMA_TAG):
        match = pattern.fullmatch(name)
        model = None if match is None else find_model(match["name"])
        if match is not None and model is not None:
            return HubId(model.repository, match["quant"].upper(), _pinned(model))
    return None


def _pinned(model: HubModel) -> str | None:
    """The commit at which the entry was looked up, where it names one."""
    return None if model.revision == _NEWEST else model.revision
