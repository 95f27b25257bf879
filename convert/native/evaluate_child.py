"""Evaluates a model in a process of its own, beside its reference: `python -m
convert.native.evaluate_child`.

Both decode the same windows in step, block by block, so that the logits of neither are
kept. Knows no terminal.

    request: {"model": path, "reference": path or null, "text": text, "window": tokens,
              "max_windows": number or null, "threads": number,
              "kv_type": type of the model's KV cache}
    events:  {"done": windows, "total": windows}
    answer:  the fields of `convert.quality.evaluate.EvaluationResult`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from convert.child import Refused, serve
from convert.native.decoding import WindowDecoder
from convert.quality.statistics import Quality, QualityStatistics

MIN_WINDOWS = 2  # of text; llama.cpp's tool wants as many

Logits = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Source:
    """A model that is evaluated or compared with."""

    path: Path
    decoder: WindowDecoder


def evaluate(request: Any, send: Callable[[object], None]) -> dict[str, object]:
    """The answer. Raises `Refused`."""
    size = request["window"]
    sources = [_open(Path(request["model"]), request, request["kv_type"])]
    if request["reference"] is not None:
        sources.append(_open(Path(request["reference"]), request, "f16"))
    all_windows = _windows(sources, request["text"], size)
    windows = list(islice(all_windows, request["max_windows"]))
    statistics = QualityStatistics()
    for index, window in enumerate(windows):
        send({"done": index, "total": len(windows)})
        _score(sources, window, index, statistics)
    send({"done": len(windows), "total": len(windows)})
    return {
        "num_windows": len(windows),
        "is_whole_text": next(all_windows, None) is None,
        "quality": dataclasses.asdict(_quality(sources[0], statistics)),
        "llama_cpp_version": llama_cpp.__version__,
    }


def _open(path: Path, request: Any, kv_type: str) -> Source:
    decoder = WindowDecoder(path, request["window"], request["threads"], kv_type)
    return Source(path, decoder)


def _windows(sources: Sequence[Source], text: str, size: int) -> Iterator[list[int]]:
    """Those of the text, which are the same for every source."""
    model = sources[0]
    tokens = model.decoder.tokenize(text)
    for other in sources[1:]:
        _require_same_vocabulary(model, other, tokens, text)
    if len(tokens) < MIN_WINDOWS * size:
        raise Refused(
            f"The text is too short: it has {len(tokens)} tokens, but {MIN_WINDOWS} windows of "
            f"{size} need {MIN_WINDOWS * size}."
        )
    return model.decoder.windows(tokens, size)


def _require_same_vocabulary(model: Source, other: Source, tokens: list[int], text: str) -> None:
    names = (
        f"{model.path.name} and {other.path.name} do not share a vocabulary, "
        "so they cannot be compared"
    )
    if model.decoder.num_vocab != other.decoder.num_vocab:
        raise Refused(
            f"{names}: they have {model.decoder.num_vocab} and {other.decoder.num_vocab} tokens."
        )
    theirs = other.decoder.tokenize(text)
    if tokens != theirs:
        at = next(
            (i for i, pair in enumerate(zip(tokens, theirs, strict=False)) if pair[0] != pair[1]),
            None,
        )
        where = (
            f"from token {at} on"
            if at is not None
            else f"into {len(tokens)} and {len(theirs)} tokens"
        )
        raise Refused(f"{names}: they tokenize the text differently, {where}.")


def _score(
    sources: Sequence[Source], window: Sequence[int], index: int, statistics: QualityStatistics
) -> None:
    """Takes in what is predicted from the second half of the window, except after its
    last token.
    """
    position = len(window) // 2
    blocks = (source.decoder.logits(window, position) for source in sources)
    for together in zip(*blocks, strict=True):
        num_rows = min(len(together[0]), len(window) - 1 - position)
        logits = [rows[:num_rows] for rows in together]
        for source, rows in zip(sources, logits, strict=True):
            _require_numbers(source, rows, index, position)
        if num_rows > 0:
            statistics.add(logits[0], window[position + 1 : position + 1 + num_rows], *logits[1:])
        position += num_rows


def _require_numbers(source: Source, rows: Logits, index: int, position: int) -> None:
    is_sound = np.isfinite(rows).all(axis=1)
    if not is_sound.all():
        at = position + int(is_sound.argmin())
        raise Refused(
            f"{source.path.name} predicts nothing valid after token {at} of window {index}: its "
            "logits are NaN or infinite. The file is damaged, or its weights are too large for "
            "its type."
        )


def _quality(model: Source, statistics: QualityStatistics) -> Quality:
    try:
        return statistics.quality()
    except OverflowError as error:
        raise Refused(
            f"{model.path.name} is broken: its perplexity is too large to be represented."
        ) from error


if __name__ == "__main__":
    serve(evaluate)
