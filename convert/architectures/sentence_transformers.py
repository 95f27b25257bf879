"""What sentence-transformers puts after a model: its modules, and how it pools.

Knows no model family.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gguf import PoolingType

from convert.config import read_json
from convert.errors import DamagedCheckpoint, UnsupportedModel

MODULES_FILE = "modules.json"
# By the class's own name: the package's path before it differs between versions.
# Normalizing changes an embedding's length only, not what it is near to.
_COMPUTED_MODULES = ("Transformer", "Pooling", "Normalize")
# `pooling_mode` since sentence-transformers 5.4; before, one flag for each kind
_BY_MODE = {
    "cls": PoolingType.CLS,
    "mean": PoolingType.MEAN,
    "lasttoken": PoolingType.LAST,
}
_BY_FLAG = {
    "pooling_mode_cls_token": PoolingType.CLS,
    "pooling_mode_mean_tokens": PoolingType.MEAN,
    "pooling_mode_lasttoken": PoolingType.LAST,
}


def check_modules(directory: Path) -> None:
    """Raises `UnsupportedModel` for a module that would be missing from the GGUF, such
    as a Dense layer after pooling.
    """
    for name in _module_names(directory):
        if name not in _COMPUTED_MODULES:
            raise UnsupportedModel(
                f"{directory} ends in a {name} module ({MODULES_FILE}), which llama.cpp does not "
                "compute: without it, the embeddings would be others. Use a model with only "
                f"these modules: {', '.join(_COMPUTED_MODULES)}."
            )


def read_pooling(directory: Path) -> PoolingType | None:
    """How token embeddings become one; None where no pooling module says so.

    Raises `UnsupportedModel` for a kind that llama.cpp does not have.
    """
    for path in sorted(directory.glob("*_Pooling/config.json")):
        settings = read_json(path)
        known = ", ".join(_BY_MODE)
        chosen = _chosen(settings)
        if len(chosen) != 1 or chosen[0] is None:
            raise UnsupportedModel(
                f"{path} must select exactly one of these kinds of pooling: {known}. Its "
                f"settings are {json.dumps(settings)}."
            )
        return chosen[0]
    return None


def _chosen(settings: dict[str, Any]) -> list[PoolingType | None]:
    """The kinds that are switched on; None for one that is not known here."""
    mode = settings.get("pooling_mode")
    if mode is not None:
        modes = mode if isinstance(mode, list) else [mode]
        return [_BY_MODE.get(name) if isinstance(name, str) else None for name in modes]
    return [
        _BY_FLAG.get(key)
        for key, value in settings.items()
        if key.startswith("pooling_mode_") and value
    ]


def _module_names(directory: Path) -> list[str]:
    """The classes of the modules; where there is no list of them, Dense by its folder."""
    path = directory / MODULES_FILE
    if not path.exists():
        return ["Dense" for _ in directory.glob("[0-9]_Dense")]
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
        return [str(entry["type"]).rpartition(".")[2] for entry in entries]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path} is not a list of modules: {error!r}") from error
