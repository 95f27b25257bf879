"""The importance matrix that a conversion was asked to use: there already, or to be
computed from a text.

Knows no rows and no kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convert.console import print_line
from convert.content import read_text
from convert.counted_progress import choose_counted_progress
from convert.errors import BadInput, MissingFile
from convert.gguf.file import is_gguf
from convert.importance.imatrix_file import describe_stranger, looks_legacy, read_imatrix
from convert.importance.matrix import (
    CALIBRATION_TEXT,
    ImportanceJob,
    compute_importance,
    unfinished_path,
)
from convert.outputs import Importance

BUILT_IN = "builtin"


@dataclass(frozen=True)
class DecodeSizes:
    """How a model is decoded to measure something."""

    threads: int
    window_tokens: int  # of the text at a time


@dataclass(frozen=True)
class WantedImportance:
    """What `--importance` was given."""

    path: Path  # of an importance matrix, or of the text to compute one from
    is_known: bool  # it is a matrix

    @classmethod
    def of(cls, text: str) -> WantedImportance:
        """From the argument of `--importance`.

        Raises `BadInput` for what is neither matrix nor text.
        """
        path = CALIBRATION_TEXT if text == BUILT_IN else Path(text)
        try:
            is_known = is_gguf(path)
        except MissingFile as error:
            raise MissingFile(
                f"--importance: {error} Pass an importance matrix, a text, or `{BUILT_IN}`."
            ) from error
        if not is_known and looks_legacy(path):
            raise BadInput(describe_stranger(path))
        if not is_known:
            read_text(path)  # better now than after a pass over the checkpoint
        return cls(path, is_known)

    def read(self) -> Importance:
        """Raises `BadInput` if it is no importance matrix after all."""
        return Importance(read_imatrix(self.path), self.path.name)

    def compute(self, model: Path, kept_as: Path, sizes: DecodeSizes, as_json: bool) -> Importance:
        """Computes it on `model` and keeps it in a file. Raises `ConvertError`.

        Until `forget` is called, the same again costs next to nothing: a conversion may
        be ended before its end.
        """
        job = ImportanceJob(
            model=model,
            text=self.path,
            out=kept_as,
            threads=sizes.threads,
            chunk_tokens=sizes.window_tokens,
            keeps_sums=True,
        )
        with choose_counted_progress("importance", "chunks", as_json, print_line) as on_progress:
            return Importance(compute_importance(job, on_progress), kept_as.name)

    @staticmethod
    def forget(kept_as: Path) -> None:
        """The conversion has come to its end: what would have spared the next one the
        work is not needed.
        """
        unfinished_path(kept_as).unlink(missing_ok=True)
