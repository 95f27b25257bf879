"""Perplexity of a GGUF over a text, and its divergence from a reference.

Knows no terminal and keeps nothing.

By llama.cpp's definition (tools/perplexity): consecutive windows, each from an empty
cache, of which the second half is scored. Everything native is in a child
(`native/evaluate_child`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from convert.child import ChildDied, ask
from convert.content import read_text
from convert.counted_progress import Counted
from convert.errors import BadInput, MissingFile
from convert.quality.statistics import Quality

WINDOW_TOKENS = 512
_MIN_WINDOW_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """What to evaluate: a model, compared with a reference if there is one."""

    model: Path
    reference: Path | None  # decoded with an f16 KV cache, whatever the model's
    text: Path
    threads: int
    window: int = WINDOW_TOKENS  # tokens
    max_windows: int | None = None  # None: the whole text
    kv_type: str = "f16"  # of the model's KV cache: see convert.native.decoding.KV_TYPES


@dataclass(frozen=True)
class EvaluationResult:
    """What the child measured."""

    num_windows: int
    is_whole_text: bool  # every window of the text was taken
    quality: Quality
    llama_cpp_version: str


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and on which text."""

    text_sha256: str  # of its content
    result: EvaluationResult

    @property
    def quality(self) -> Quality:
        return self.result.quality


def evaluate(
    job: EvaluateJob, on_progress: Callable[[Counted], None] = lambda _windows: None
) -> Evaluation:
    """Decodes the text and measures; progress is in windows.

    Raises `BadInput` for files that are missing or do not fit together, a text that is
    no UTF-8 or too short, and a model whose logits are no numbers; `ChildDied`, naming
    the model, where native code ended the child.
    """
    _check(job)
    text = read_text(job.text)
    request: dict[str, Any] = {
        "model": str(job.model.absolute()),
        "reference": None if job.reference is None else str(job.reference.absolute()),
        "text": text.text,
        "window": job.window,
        "max_windows": job.max_windows,
        "threads": job.threads,
        "kv_type": job.kv_type,
    }
    try:
        answer = ask(
            "convert.native.evaluate_child",
            request,
            lambda event: on_progress(Counted(**event)),
            job.threads,
        )
    except ChildDied as error:
        raise ChildDied(f"{job.model.name} could not be evaluated: {error}") from error
    return Evaluation(text.sha256, msgspec.convert(answer, EvaluationResult))


def _check(job: EvaluateJob) -> None:
    """Before anything long begins."""
    if job.window < _MIN_WINDOW_TOKENS:
        raise BadInput(
            f"--context must be at least {_MIN_WINDOW_TOKENS} tokens (got {job.window})."
        )
    for path in (job.model, job.reference):
        if path is not None and not path.is_file():
            raise MissingFile(f"The file {path} does not exist.")
