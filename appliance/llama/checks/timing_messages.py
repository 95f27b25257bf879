"""What a timing child is asked, and what it answers; no native code. Knows not what for.

One JSON object per line, in both directions: an `Ask` is answered by a `RoundTimes`, or
by `Complaint`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class TimedModel:
    """How a child has its model in memory; it has one, and asks choose among contexts on it."""

    path: str
    use_extra_bufts: bool
    use_mmap: bool


@dataclass(frozen=True, kw_only=True)
class TimedContext:
    """What a context is made with; see `appliance.llama.context.ContextConfig`."""

    kv_type: str
    threads: int
    batch_threads: int
    flash_attention: bool
    ubatch_rows: int


@dataclass(frozen=True)
class Workload:
    """What is computed in a round: behind `depth` cells, a prompt of `prompt_rows` in
    one decode, and `num_steps` steps of one stream and of `streams` streams. Each of
    several streams has its share of the cells; one alone has all.
    """

    depth: int
    prompt_rows: int
    num_steps: int
    streams: int

    @property
    def num_cells(self) -> int:
        """Cells of the KV cache that are in use at once."""
        return self.depth + max(self.prompt_rows, self.streams * self.num_steps)


class Ask(msgspec.Struct, frozen=True):
    """One round. Where `log_probs_file` is given, what a fixed text's log-probabilities
    are is written there first, as float32 [positions, vocabulary] in NumPy's format.
    """

    context: TimedContext
    workload: Workload
    log_probs_file: str | None = None


class RoundTimes(msgspec.Struct, frozen=True, tag="times"):
    """Milliseconds: of the prompt, of each step of one stream, of each step of all
    streams. `depth` cells were filled: none, where a model's cache is no plain list of
    cells.
    """

    depth: int
    prompt_ms: float
    alone_ms: list[float]
    together_ms: list[float]


class Complaint(msgspec.Struct, frozen=True, tag="complaint"):
    """Why a round could not be computed, such as a context that llama.cpp refuses."""

    message: str


Answer = RoundTimes | Complaint
