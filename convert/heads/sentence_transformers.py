"""What sentence-transformers saves beside a model: the modules after it, how it pools,
and the prompts in front of texts.

Knows no model family.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import PoolingType

from convert.config import read_json
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel

MODULES_FILE = "modules.json"
PROMPTS_FILE = "config_sentence_transformers.json"
# By the class's own name: the package's path before it differs between versions.
# Normalizing changes an embedding's length only, not what it is near to.
_POOLING, _SCORE, _DENSE = "Pooling", "LogitScore", "Dense"
_COMPUTED_MODULES = ("Transformer", _POOLING, "Normalize")
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


@dataclass(frozen=True)
class Modules:
    """What follows a model's last layer."""

    pooling: PoolingType | None = None
    scores: tuple[int, int] | None = None  # tokens that mean yes and no, of a reranker
    dense: tuple[str, ...] = ()  # folders of matrices that a pooled embedding is multiplied by


@dataclass(frozen=True)
class Prompts:
    """Texts by name, and the name of the one that sentence-transformers puts in front of
    every text.
    """

    texts: Mapping[str, str]
    default: str | None


@dataclass(frozen=True)
class _Module:
    kind: str
    path: str


def read_modules(directory: Path) -> Modules:
    """Raises `UnsupportedModel` for a module that would be missing from the GGUF;
    `MissingFile`, `DamagedCheckpoint`.
    """
    modules = _listed(directory)
    kinds = [module.kind for module in modules]
    for index, module in enumerate(modules):
        follows = module.kind == _DENSE and module.path and _POOLING in kinds[:index]
        if module.kind not in (*_COMPUTED_MODULES, _SCORE) and not follows:
            raise not_computed(directory, module.kind)
    scores = [module for module in modules if module.kind == _SCORE]
    poolings = [module.path for module in modules if module.kind == _POOLING]
    if len(poolings) > 1 or len(scores) > 1 or (poolings and scores):
        raise UnsupportedModel(
            f"{directory / MODULES_FILE} lists several modules of the kinds {_POOLING} and "
            f"{_SCORE}; llama.cpp computes one."
        )
    return Modules(
        _read_pooling(directory, poolings),
        _read_scores(directory, scores[0]) if scores else None,
        tuple(module.path for module in modules if module.kind == _DENSE),
    )


def not_computed(directory: Path, kind: str) -> UnsupportedModel:
    """What is said of a module of this `kind`."""
    return UnsupportedModel(
        f"{directory} ends in a {kind} module ({MODULES_FILE}), which llama.cpp "
        "does not compute: without it, the embeddings would be others. Use a model with "
        f"only these modules: {', '.join(_COMPUTED_MODULES)}."
    )


def read_prompts(directory: Path) -> Prompts:
    """Empty where there are none, or none that can be read."""
    path = directory / PROMPTS_FILE
    settings = read_json(path) if path.exists() else {}
    prompts, default = settings.get("prompts"), settings.get("default_prompt_name")
    texts = prompts if isinstance(prompts, dict) else {}
    return Prompts(
        {str(name): text for name, text in texts.items() if isinstance(text, str)},
        default if isinstance(default, str) else None,
    )


def lowers_texts(directory: Path) -> bool:
    """Whether sentence-transformers itself writes texts in small letters."""
    path = directory / "sentence_bert_config.json"
    return path.exists() and read_json(path).get("do_lower_case") is True


def _read_pooling(directory: Path, listed: list[str]) -> PoolingType | None:
    """How token embeddings become one; None where no pooling module says so.

    Raises `UnsupportedModel` for a kind that llama.cpp does not have.
    """
    folders = [directory / path for path in listed] or sorted(directory.glob("*_Pooling"))
    paths = [folder / "config.json" for folder in folders]
    if listed and not paths[0].is_file():
        raise MissingFile(
            f"{paths[0]} is missing, which {MODULES_FILE} names and which says how embeddings are "
            "pooled. Download it again."
        )
    for path in paths:
        if not path.is_file():
            continue
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


def _read_scores(directory: Path, module: _Module) -> tuple[int, int]:
    """The tokens of a `LogitScore` module: its score is the difference of two logits."""
    path = directory / module.path / "config.json"
    settings = read_json(path)
    yes, no = settings.get("true_token_id"), settings.get("false_token_id")
    if type(yes) is not int or type(no) is not int or yes < 0 or no < 0:
        raise UnsupportedModel(
            f"{path} must name two tokens, true_token_id and false_token_id (it names {yes!r} and "
            f"{no!r}): llama.cpp computes a score from both."
        )
    return yes, no


def _listed(directory: Path) -> list[_Module]:
    """The modules; where there is no list of them, Dense by its folder."""
    path = directory / MODULES_FILE
    if not path.exists():
        return [_Module("Dense", "") for _ in directory.glob("[0-9]_Dense")]
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
        if not entries or not isinstance(entries, list):
            raise ValueError(f"it is {json.dumps(entries)[:80]}")
        return [
            _Module(str(entry["type"]).rpartition(".")[2], _plain_path(entry.get("path", "")))
            for entry in entries
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(
            f"{path} is not a list of modules: {error!r}. Download it again, or remove it if the "
            "model is not one of sentence-transformers."
        ) from error


def _plain_path(path: object) -> str:
    """Of a folder in the checkpoint's own."""
    if not isinstance(path, str) or path in ("..", ".") or any(char in path for char in "/\\\0"):
        raise ValueError(f"the path {path!r} is no folder beside it")
    return path
