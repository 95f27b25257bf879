"""Measures files of one model, remembering what is known already.

Knows no decoding and no terminal.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from convert.counted_progress import OnCounted
from convert.errors import BadInput
from convert.gguf.parts import total_bytes
from convert.quality.evaluate import WINDOW_TOKENS, EvaluateJob, Evaluation, evaluate
from convert.quality.sidecar import (
    FileState,
    Measurement,
    NamedContent,
    Request,
    add_recorded,
    read_recorded,
    read_state,
    sidecar_path,
)

ShowProgress = Callable[[str], AbstractContextManager[OnCounted]]


@dataclass(frozen=True, kw_only=True)
class SurveyConditions:
    """How every file is measured; see `EvaluateJob`."""

    text: Path
    threads: int
    window: int = WINDOW_TOKENS
    max_windows: int | None = None
    kv_type: str = "f16"
    again: bool = False  # even where the result is known already


@dataclass(frozen=True, kw_only=True)
class SurveyedFile:
    """A file and what is known of it."""

    path: Path
    num_bytes: int
    is_reference: bool
    measurement: Measurement
    is_new: bool  # measured just now
    sidecar: Path | None  # None where none could be written


class Survey:
    """Measures one file after the other under the same conditions, each beside
    `reference` if there is one.

    `show_progress` opens a display of a title; `on_note` gets what is worth knowing.
    Raises what `evaluate` does.
    """

    def __init__(
        self,
        conditions: SurveyConditions,
        reference: Path | None,
        show_progress: ShowProgress,
        on_note: Callable[[str], None],
    ) -> None:
        self._conditions = conditions
        self._show_progress = show_progress
        self._on_note = on_note
        self._text = NamedContent(conditions.text.name, read_state(conditions.text).sha256)
        self._reference = reference
        self._reference_state = None if reference is None else read_state(reference)

    def measure(self, model: Path) -> SurveyedFile:
        """What the sidecar knows, or else what is measured
        now, which is written there.
        """
        is_reference = self._reference is not None and model.resolve() == self._reference.resolve()
        # Beside itself a model differs only by its KV cache.
        reference = None if is_reference and self._conditions.kv_type == "f16" else self._reference
        state = (
            self._reference_state if is_reference and self._reference_state else read_state(model)
        )
        recorded = read_recorded(model, state)
        if recorded.warning is not None:
            self._on_note(recorded.warning)
        known = recorded.find(self._request(reference), self._conditions.max_windows)
        if known is not None and not self._conditions.again:
            return SurveyedFile(
                path=model,
                num_bytes=total_bytes(model),
                is_reference=is_reference,
                measurement=known,
                is_new=False,
                sidecar=sidecar_path(model),
            )
        new = self._measure(model, state, reference)
        sidecar = self._keep(model, state, new)
        return SurveyedFile(
            path=model,
            num_bytes=total_bytes(model),
            is_reference=is_reference,
            measurement=new,
            is_new=True,
            sidecar=sidecar,
        )

    def _request(self, reference: Path | None) -> Request:
        conditions = self._conditions
        content = self._reference_content(reference)
        reference_sha256 = None if content is None else content.sha256
        return Request(self._text.sha256, conditions.window, reference_sha256, conditions.kv_type)

    def _reference_content(self, reference: Path | None) -> NamedContent | None:
        if reference is None:
            return None
        assert self._reference_state is not None
        return NamedContent(reference.name, self._reference_state.sha256)

    def _measure(self, model: Path, state: FileState, reference: Path | None) -> Measurement:
        conditions = self._conditions
        job = EvaluateJob(
            model=model,
            reference=reference,
            text=conditions.text,
            threads=conditions.threads,
            window=conditions.window,
            max_windows=conditions.max_windows,
            kv_type=conditions.kv_type,
        )
        with self._show_progress(model.name) as on_progress:
            evaluation = evaluate(job, on_progress)
        self._require_unchanged(model, state, evaluation)
        return Measurement(
            text=self._text,
            window_tokens=conditions.window,
            num_windows=evaluation.result.num_windows,
            is_whole_text=evaluation.result.is_whole_text,
            kv_type=conditions.kv_type,
            reference=self._reference_content(reference),
            quality=evaluation.quality,
            llama_cpp_version=evaluation.result.llama_cpp_version,
            measured_on=datetime.datetime.now(datetime.timezone.utc).date(),
        )

    def _require_unchanged(self, model: Path, state: FileState, evaluation: Evaluation) -> None:
        states = [(model, state)]
        if self._reference is not None and self._reference_state is not None:
            states.append((self._reference, self._reference_state))
        for path, before in states:
            if _stamp(path) != (before.num_bytes, before.modified_ns):
                raise BadInput(f"{path} was changed while it was being measured. Measure it again.")
        if evaluation.text_sha256 != self._text.sha256:
            raise BadInput(
                f"{self._conditions.text} was changed during the measurement. Measure again."
            )

    def _keep(self, model: Path, state: FileState, new: Measurement) -> Path | None:
        try:
            return add_recorded(model, state, new)
        except BadInput as error:
            # such as a read-only directory: the result is still worth showing
            self._on_note(f"the result was not saved: {error}")
            return None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of modification; None if the file has gone."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_size, state.st_mtime_ns
