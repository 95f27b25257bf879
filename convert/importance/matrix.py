"""The importance matrix of a model:
how much each column of its weights matters for a text.

Knows no terminal.

The model runs in a child (`native/importance_child`), which saves what it has now and
then in a file beside the output; a run that was ended goes on from there. The built-in
text, calibration.txt, was written for this project and is under its licence (MIT):
prose of many kinds, conversations, code, data, sums, and a little of ten more
languages.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

from convert.child import ask
from convert.content import HashedText, hash_file, read_text
from convert.counted_progress import Counted, OnCounted
from convert.errors import BadInput, ConvertError
from convert.importance.imatrix_file import ImportanceMatrix, write_imatrix
from convert.importance.sums import load_sums
from convert.writer import OutputFile, remove_stale

CALIBRATION_TEXT = Path(__file__).with_name("calibration.txt")
DEFAULT_CHUNK_TOKENS = 512  # of llama-imatrix
_SAVE_INTERVAL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class ImportanceJob:
    """Which model reads which text, and where the importance matrix goes."""

    model: Path  # a GGUF of any type
    text: Path  # UTF-8
    out: Path
    threads: int
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS
    max_chunks: int | None = None  # None: the whole text
    save_interval_s: float = _SAVE_INTERVAL_S  # between saves of an unfinished run
    # keep in `unfinished_path` what gives another run this one's result at once
    keeps_sums: bool = False


def compute_importance(
    job: ImportanceJob, on_progress: OnCounted = lambda _chunks: None
) -> ImportanceMatrix:
    """Writes `job.out` and returns what it holds.

    Progress is in chunks of the text; the first says how far an earlier run had come.
    Raises `BadInput` for a model, text or place that is of no use, and `ChildDied` if
    llama.cpp does; what was computed until then stays in `unfinished_path` and is used
    by the next run for the same model, text, chunk size and llama.cpp.
    """
    _check_numbers(job)
    text = read_text(job.text)
    identity = _identity(job, text)
    _spare_inputs(job)
    _prepare(job.out)
    unfinished = unfinished_path(job.out)
    request = {
        "model": str(job.model.absolute()),
        "text": text.text,
        "threads": job.threads,
        "chunk_tokens": job.chunk_tokens,
        "max_chunks": job.max_chunks,
        "unfinished": str(unfinished.resolve()),
        "identity": identity,
        "save_interval_s": job.save_interval_s,
    }
    ask(
        "convert.native.importance_child",
        request,
        lambda event: on_progress(Counted(**event)),
        job.threads,
    )
    sums = load_sums(unfinished, identity)
    if sums is None:
        raise ConvertError(
            f"{unfinished} was removed or changed while it was still needed. Run the command again."
        )
    matrix = sums.matrix(job.text.name, job.chunk_tokens)
    write_imatrix(job.out, matrix)
    if not job.keeps_sums:
        unfinished.unlink(missing_ok=True)
    return matrix


def unfinished_path(out: Path) -> Path:
    """Where a run that was ended left what it had."""
    return out.with_name(f".{out.name}.unfinished")


def _spare_inputs(job: ImportanceJob) -> None:
    """What is read is not written over."""
    for given in (job.model, job.text):
        if job.out.exists() and job.out.samefile(given):
            raise BadInput(f"--out {job.out} would overwrite an input file. Choose another file.")


def _check_numbers(job: ImportanceJob) -> None:
    if job.threads < 1:
        raise BadInput(f"--threads must be at least 1 (got {job.threads}).")
    if job.chunk_tokens < 1:
        raise BadInput(f"--chunk-tokens must be at least 1 (got {job.chunk_tokens}).")
    if job.max_chunks is not None and job.max_chunks < 1:
        raise BadInput(f"--chunks must be at least 1 (got {job.max_chunks}).")


def _identity(job: ImportanceJob, text: HashedText) -> str:
    """Of all that the sums depend on: what was computed for another model or text must
    not be added to.
    """
    return json.dumps(
        {
            "model": hash_file(job.model),
            "text": text.sha256,
            "chunk_tokens": job.chunk_tokens,
            "llama_cpp": importlib.metadata.version("llama-cpp-python"),
        }
    )


def _prepare(out: Path) -> None:
    """Finds out now, not at the end, whether `out` can be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out.parent} cannot be created: {error.strerror}.") from error
    remove_stale(out.parent)
    OutputFile(out, 0).discard()
