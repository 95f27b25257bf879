"""The engine's `Runner` on llama.cpp: decodes batches and samples from them.

Knows no requests and no text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet
from appliance.engine.batch import Batch
from appliance.engine.constraint import Constraint
from appliance.engine.cost import AttentionCost
from appliance.engine.runner import Capabilities, ChosenToken, Logprobs, SampleRequest, ScoreRequest
from appliance.errors import AdapterFailed, DecodeFailed
from appliance.llama.adapters import Adapters
from appliance.llama.context import MAX_SEQUENCE_IDS, Context, ContextConfig
from appliance.llama.exact_rows import why_not_exact
from appliance.llama.kernels.loading import foreign_count, foreign_operations
from appliance.llama.model import Model
from appliance.llama.own_heads import OwnHeads
from appliance.llama.sampling.choosing import Draw, Sampling
from appliance.llama.sampling.logits import Row, check_row, logprobs
from appliance.llama.sampling.sampler import SamplerChain
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams

# ggml's flash attention computes tiles from so many rows on. Without it, memory may be
# planned for the scores of half as many rows (`fit/plan/footprint.py`).
_TILE_ROWS, _SCORED_ROWS = 64, 32
# Attention by matrix products computes masked cells like others; ggml's flash attention
# on a CPU skips them (measured, docs/performance.md); our own sees only a mask's bits,
# once for all layers.
_PRODUCTS = AttentionCost(foreign_cell=1.0, tiled_rows=_TILE_ROWS)
_FLASH_ATTENTION = AttentionCost(foreign_cell=0.03, tiled_rows=_TILE_ROWS)
_OWN_ATTENTION = AttentionCost(foreign_cell=0.001, tiled_rows=4)
_TRIAL_ROWS = 4  # of other tokens: of equal ones, what attention weighs would not show
_WARM_UP_ROWS = (1, 3)  # of its decodes: for one row, llama.cpp may build another graph


class LlamaRunner:
    """Owns a context and one sampler per open slot; implements
    `appliance.engine.runner.Runner`.
    """

    def __init__(
        self, model: Model, config: ContextConfig, adapters: Adapters | None = None
    ) -> None:
        """`adapters` are the model's, made before this."""
        self._model = model
        self._adapters = adapters or Adapters(model, ())
        self._context = Context(model, config)
        self._config = config
        sizes = config.sizes
        max_depth = None if model.memory.can_roll_back else self._context.rollback_states
        self._samplers: dict[int, SamplerChain] = {}
        self._heads: list[OwnHeads] = []
        self._sampling = Sampling(sizes.threads, model.end_tokens)
        self.capabilities = Capabilities(
            num_cells=self._context.num_cells,
            num_slots=sizes.slots,
            first_kept_id=sizes.slots + 1,  # behind the context's scratch id
            num_sequence_ids=MAX_SEQUENCE_IDS if model.memory.shares_prefixes else sizes.slots,
            max_rows=self._context.max_rows,
            num_vocab=model.num_vocab,
            end_tokens=model.end_tokens,
            attention=_FLASH_ATTENTION if sizes.flash_attention else _PRODUCTS,
            max_logit_rows=sizes.max_logit_rows,
            max_draft_rows=_max_draft_rows(sizes, max_depth),
            max_draft_depth=max_depth,
            block_rows=_TILE_ROWS if sizes.flash_attention else _SCORED_ROWS,
            why_cells_stay=self._context.why_cells_stay,
            keeps_states=not model.memory.shares_prefixes,
            wants_equal_rows=model.memory.has_state,
        )

    def open_sampler(
        self,
        slot: int,
        sampling: SamplingParams,
        prompt: Seq[int],
        constraint: Constraint | None = None,
    ) -> None:
        assert slot not in self._samplers
        self._samplers[slot] = SamplerChain(
            self._model, sampling, prompt, self._context.num_cells, constraint=constraint
        )

    def close_sampler(self, slot: int) -> None:
        self._samplers.pop(slot).close()

    def move_sampler(self, source: int, target: int) -> None:
        assert target not in self._samplers
        self._samplers[target] = self._samplers.pop(source)

    def copy_cells(self, source_id: int, target_id: int, num_tokens: int) -> None:
        self._context.copy(source_id, target_id, num_tokens)

    def remove_cells(self, sequence_id: int) -> None:
        self._context.clear(sequence_id)

    def remove_tail(self, slot: int, num_tokens: int) -> None:
        self._context.clear_tail(slot, num_tokens)

    def save_cells(self, sequence_id: int, first: int, max_bytes: int) -> bytes | None:
        return self._context.save(sequence_id, first, max_bytes)

    def load_cells(
        self, target_id: int, data: bytes, first: int, last: int, shift: int = 0
    ) -> bool:
        return self._context.load(target_id, data, first, last, shift)

    def copy_moved(self, source_id: int, target_id: int, first: int, last: int, shift: int) -> bool:
        return self._context.copy_moved(source_id, target_id, first, last, shift)

    def add_heads(self, kind: type[OwnHeads], config: ContextConfig) -> OwnHeads:
        """A drafter that reads what this runner computes from now on. Raises `LoadFailed`."""
        heads = kind(self._model, self._context, config, attention=self.capabilities.attention)
        self._heads.append(heads)
        return heads

    def use_adapters(self, adapters: AdapterSet) -> None:
        self._adapters.use(self._context.handle, adapters)

    def decode(self, batch: Batch) -> None:
        self._context.decode(batch)
        for heads in self._heads:
            heads.note(batch)

    def pace(self, share: float) -> float:
        if not self.capabilities.exact_rows:  # threads share the sums of a row
            return share
        sizes = self._config.sizes
        most = max(sizes.threads, sizes.batch_threads)
        num_threads = max(math.ceil(share * most), 1)
        self._context.use_threads(
            min(sizes.threads, num_threads), min(sizes.batch_threads, num_threads)
        )
        return min(share * most / num_threads, 1.0)

    def synchronize(self) -> None:
        self._context.synchronize()

    def score(self, requests: Seq[ScoreRequest]) -> list[Logprobs | DecodeFailed]:
        rows = self._context.logits_in_place([request.row for request in requests])
        return [_score(row, request) for row, request in zip(rows, requests, strict=True)]

    def sample(self, requests: Seq[SampleRequest]) -> list[list[ChosenToken] | DecodeFailed]:
        rows = iter(
            self._context.logits_in_place([row for request in requests for row in request.rows])
        )
        return self._sampling.choose(
            [
                Draw(
                    self._samplers[request.slot],
                    list(islice(rows, len(request.rows))),
                    request.drafted,
                )
                for request in requests
            ]
        )

    def warm_up(self) -> None:
        """Computes some rows, so that weights are read and a CPU path that dies does so
        before the first request; and finds out whether rows are exact.

        Raises `DecodeFailed` if what it computes are no numbers: then no answer would
        be one.
        """
        num_foreign = foreign_count()
        few, more = (self._decode_some(num_rows) for num_rows in _WARM_UP_ROWS)
        row_bytes = (more - few) // (_WARM_UP_ROWS[1] - _WARM_UP_ROWS[0])
        num_seen = self._model.memory.num_window - _WARM_UP_ROWS[0]
        self.capabilities = replace(self.capabilities, state_bytes=few + num_seen * row_bytes)
        reason = why_not_exact(
            foreign_operations(num_foreign),
            uses_gpu=self._config.offload_ops,
            flash_attention=self._config.sizes.flash_attention,
        )
        self.capabilities = replace(self.capabilities, why_not_exact=reason)
        if not reason:
            self.capabilities = replace(
                self.capabilities, exact_rows=True, attention=_OWN_ATTENTION
            )

    def try_adapters(self) -> list[int]:
        """Computes some rows with each adapter, so that one that cannot be computed shows
        before the first request; returns those that change nothing.

        Raises `AdapterFailed` for the first one that cannot be.
        """
        if not self._adapters.num:
            return []
        plain = self._trial(NO_ADAPTERS)
        trials = [self._trial_of(at) for at in range(self._adapters.num)]
        self._adapters.use(self._context.handle, NO_ADAPTERS)
        return [at for at, row in enumerate(trials) if np.array_equal(row, plain)]

    def _trial_of(self, number: int) -> npt.NDArray[np.float32]:
        try:
            return self._trial(AdapterSet(1, ((number, 1.0),)))
        except DecodeFailed as error:
            file = self._adapters.files[number]
            raise AdapterFailed(
                f"This model cannot compute with the {file.kind.words} {file.name} ({file.path}), "
                "which may be damaged, or far too strong. Leave it out, or make it again. "
                f"({error})"
            ) from error

    def _trial(self, adapters: AdapterSet) -> npt.NDArray[np.float32]:
        self._adapters.use(self._context.handle, adapters)
        num_rows = min(_TRIAL_ROWS, self._context.max_rows)
        batch = Batch()
        for position in range(num_rows):
            token = position % self._model.num_vocab
            batch.add(token, position, 0, wants_logits=position == num_rows - 1)
        self._context.decode(batch)
        logits = self._context.logits(num_rows - 1)
        self._context.clear(0)
        check_row(logits)
        return logits

    def _decode_some(self, num_rows: int) -> int:
        """Returns the bytes of what that makes of a sequence, where such are saved whole."""
        num_rows = min(num_rows, self._context.max_rows)
        batch = Batch()
        for position in range(num_rows):
            batch.add(self._model.bos or 0, position, 0, wants_logits=position == num_rows - 1)
        self._context.decode(batch)
        check_row(self._context.logits_in_place([num_rows - 1])[0])
        saved = self._context.save(0, 0) if self.capabilities.keeps_states else None
        self._context.clear(0)
        return len(saved or b"")

    def close(self) -> None:
        self._sampling.close()
        for sampler in self._samplers.values():
            sampler.close()
        self._context.close()


def _max_draft_rows(sizes: ContextSizes, max_depth: int | None) -> int:
    """A state is taken back right only if the step was computed at once."""
    if max_depth is None:
        return sizes.max_draft_rows
    return min(sizes.max_draft_rows, sizes.ubatch_rows - sizes.slots) if max_depth > 0 else 0


def _score(row: Row, request: ScoreRequest) -> Logprobs | DecodeFailed:
    try:
        check_row(row)
    except DecodeFailed as error:
        return error
    return logprobs(row, request.token, request.num_top)
