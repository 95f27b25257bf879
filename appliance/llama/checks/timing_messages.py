"""What a timing child is asked, and what it answers; no native code.

Knows not what for.

One JSON object per line, in both directions: a `TimingRequest` is answered by
`RoundTimes`, or by a `TimingFailure`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from appliance.protocol.kernel_use import NO_KERNELS, KernelUse


@dataclass(frozen=True)
class TimedModel:
    """How a child has its model in memory;
    it has one, and requests choose among contexts on it.
    """

    path: str
    use_extra_bufts: bool
    use_mmap: bool
    kernels: KernelUse = NO_KERNELS
    confine: str = "auto"  # or "off"


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
    """What is computed in a round: a prompt, steps of one stream, steps of several.

    Each of several streams has its share of the cells; one alone has all.
    """

    depth: int  # cells in use before it begins
    prompt_rows: int  # in one decode
    num_steps: int  # of one stream, and as many of all
    streams: int

    @property
    def num_cells(self) -> int:
        """Cells of the KV cache that are in use at once."""
        return self.depth + max(self.prompt_rows, self.streams * self.num_steps)


class TimingRequest(msgspec.Struct, frozen=True):
    """One round."""

    context: TimedContext
    workload: Workload
    # a fixed text's log-probabilities are written there first, as float32
    # [positions, vocabulary] in NumPy's format
    log_probs_file: str | None = None


class RoundTimes(msgspec.Struct, frozen=True, tag="times"):
    """What a round took."""

    depth: int  # cells that were filled: none where a model's cache is no plain list of cells
    prompt_ms: float
    alone_ms: list[float]  # each step of one stream
    together_ms: list[float]  # each step of all streams


class TimingFailure(msgspec.Struct, frozen=True, tag="failure"):
    """Why a round could not be computed, such as a context that llama.cpp refuses."""

    message: str


TimingResult = RoundTimes | TimingFailure
