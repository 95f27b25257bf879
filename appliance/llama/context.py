"""A `llama_context`: the KV cache and one decode at a time.

Knows no sampling and no scheduling.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.errors import CacheFull, DecodeFailed, LoadFailed
from appliance.llama import library
from appliance.llama.model import Model
from appliance.protocol.context_sizes import ContextSizes

# ggml type names that a KV cache can have here, and their numbers in ggml.h.
KV_TYPES: dict[str, int] = {
    "f16": llama_cpp.GGML_TYPE_F16,
    "q8_0": llama_cpp.GGML_TYPE_Q8_0,
    "q5_1": llama_cpp.GGML_TYPE_Q5_1,
    "q4_0": llama_cpp.GGML_TYPE_Q4_0,
}


# Python's own way to make a bytes object whose contents are written before anybody else
# has it.
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
# llama.cpp's LLAMA_MAX_SEQ: ids that may own cells, whatever may be in a batch
MAX_SEQUENCE_IDS = 256
_STATE_ONLY = llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY  # and cells of windows
_NOT_TURNED = "K-shift"  # in llama.cpp's error; llama_decode goes on after it
_COPIED_TOGETHER = 256  # cells: tens of MiB of a large model's
# Turning a key by no angle changes nothing where its length stays, too: llama.cpp turns
# all cells of the cache, and YaRN and LongRoPE would lengthen each of them once more.
_LENGTH_STAYS = (None, "none", "linear")
_ROTATED_TOGETHER = 64  # values of a quantized key, or a multiple (llama-kv-cache.cpp, attn_rot_k)


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """What llama.cpp is told to make a context."""

    sizes: ContextSizes
    offload_kv: bool = False  # each block's KV cache is where the block is
    offload_ops: bool = False  # large steps are computed on a GPU even of weights in RAM
    # Of the model's heads that predict one token more, instead of all its other layers:
    # each row has what those made of the token in front of it too.
    of_heads: bool = False


class Context:
    """Unified KV cache over `sizes.slots` sequences.

    Raises `LoadFailed` if llama.cpp refuses the combination.
    """

    def __init__(self, model: Model, config: ContextConfig) -> None:
        self._model = model  # llama.cpp does not keep it alive
        sizes = config.sizes
        if sizes.rollback_states and sizes.rollback_states + 2 > sizes.ubatch_rows:
            raise LoadFailed(  # llama.cpp would abort (llama-batch.cpp, `split_equal`)
                f"{sizes.rollback_states} earlier states need steps of more than "
                f"{sizes.rollback_states + 1} rows (got {sizes.ubatch_rows})."
            )
        library.take_errors()
        handle = llama_cpp.llama_init_from_model(model.handle, _params(config))
        if not handle:
            raise LoadFailed(
                f"llama.cpp refused a context of {sizes.kv_cells} cells with {sizes.kv_type} KV: "
                f"{library.take_errors() or 'no reason given'}. Quantized KV needs a head size "
                "divisible by 32."
            )
        self.handle = handle
        self._memory = llama_cpp.llama_get_memory(handle)
        # to other positions: a clause; empty where they can be moved
        self.why_cells_stay = _why_cells_stay(model, self._memory, sizes.kv_type)
        # those of heads are cells, whatever the other layers have
        self._has_state = model.memory.has_state and not config.of_heads
        self._batch = llama_cpp.llama_batch_init(sizes.max_rows, 0, 1)
        # Fetched once: every access through the structure makes a new pointer object.
        self._columns = (self._batch.token, self._batch.pos, self._batch.logits)
        self._sequence_ids = [self._batch.seq_id[at] for at in range(sizes.max_rows)]
        for at in range(sizes.max_rows):
            self._batch.n_seq_id[at] = 1
        self.num_cells: int = llama_cpp.llama_n_ctx(handle)
        # 0 where llama.cpp keeps none for this architecture, whatever was asked for
        self.rollback_states: int = llama_cpp.llama_n_rs_seq(handle)
        # With a window, a decode's later parts take cells that its earlier ones need
        # (llama-kv-cache.cpp: `prepare` does not give back what `apply_ubatch` purged).
        self.max_rows = (
            min(sizes.max_rows, sizes.ubatch_rows) if model.memory.num_window else sizes.max_rows
        )
        self._scratch_id = sizes.slots
        # Sequences whose cells were moved: their keys are turned to match only with the
        # next decode.
        self._turning: set[int] = set()
        # Sequences whose state was taken back: llama.cpp moves it to where it belongs only
        # with the next decode.
        self._settling: set[int] = set()
        self._row_type = ctypes.c_float * model.num_vocab  # of logits

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self.handle)

    @property
    def batch(self) -> Any:
        """llama.cpp's batch, whose arrays `decode` fills."""
        return self._batch

    def decode(self, batch: Batch) -> None:
        """Computes all rows of `batch`.

        Raises `CacheFull`, and then nothing has changed, or another `DecodeFailed`; what
        then is in the cache of its slots is undefined.
        """
        assert 0 < len(batch) <= self.max_rows
        tokens, positions, logits = self._columns
        for at, row in enumerate(batch.rows):
            tokens[at] = row.token
            positions[at] = row.position
            self._sequence_ids[at][0] = row.slot
            logits[at] = row.wants_logits
        self._batch.n_tokens = len(batch)
        library.take_errors()
        status = llama_cpp.llama_decode(self.handle, self._batch)
        if status == _CACHE_IS_FULL:
            raise CacheFull("llama.cpp has no room in the KV cache for this step.")
        if status != 0:
            raise DecodeFailed(
                f"llama_decode returned {status} ({_MEANING.get(status, library.take_errors())})."
            )
        if self._turning and _NOT_TURNED in (errors := library.take_errors()):
            raise DecodeFailed(f"Moved cells could not be made to match their positions: {errors}")
        self._turning.clear()
        self._settling.difference_update(row.slot for row in batch.rows)

    def use_threads(self, threads: int, batch_threads: int) -> None:
        """From the next decode on: those that compute a single row, and several."""
        llama_cpp.llama_set_n_threads(self.handle, threads, batch_threads)

    def synchronize(self) -> None:
        """Waits until the last decode is done."""
        llama_cpp.llama_synchronize(self.handle)

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """A copy of the logits, float32 [vocabulary], of a row of the last batch that
        wanted them.
        """
        logits = self.logits_in_place([row])[0]
        return np.array(logits)

    def logits_in_place(self, rows: Seq[int]) -> list[npt.NDArray[np.float32]]:
        """The logits of rows that wanted them, where llama.cpp has them: the next
        decode overwrites them.

        Several threads may read what this returns, but must not call this: it may
        reorder the rows of the context.
        """
        llama_cpp.llama_synchronize(self.handle)
        pointers = [llama_cpp.llama_get_logits_ith(self.handle, row) for row in rows]
        assert all(pointers), "a row that wanted no logits"
        return [
            np.frombuffer(memoryview(self._row_type.from_address(_address(p))), np.float32)
            for p in pointers
        ]

    def copy(self, source_id: int, target_id: int, num_tokens: int) -> None:
        """Adds a sequence to the cells of another one's first tokens.

        Ids up to MAX_SEQUENCE_IDS - 1 are legal here.
        """
        llama_cpp.llama_memory_seq_cp(self._memory, source_id, target_id, 0, num_tokens)
        if source_id in self._turning:
            self._turning.add(target_id)

    def save(
        self, sequence_id: int, first: int, max_bytes: int = sys.maxsize, last: int = -1
    ) -> bytes | None:
        """A sequence's cells from position `first` on, up to the one before `last`, in
        llama.cpp's own format (`llama_state_seq_get_data`).

        None if they would take more than `max_bytes`, before any memory is taken, or if
        they were moved since the last decode. Saved through the scratch id: it reads
        only ids that may be in a batch, and only whole sequences.
        """
        if sequence_id in self._turning:
            return None
        if sequence_id in self._settling and not self._settle(sequence_id):
            return None
        llama_cpp.llama_memory_seq_cp(self._memory, sequence_id, self._scratch_id, first, last)
        size = llama_cpp.llama_state_seq_get_size(self.handle, self._scratch_id)
        if size > max_bytes:
            self.clear(self._scratch_id)
            return None
        data: bytes = _new_bytes(
            None, size
        )  # written in place: a copy would take the memory twice, which may not be there
        target = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
        num_written = llama_cpp.llama_state_seq_get_data(
            self.handle, target, size, self._scratch_id
        )
        self.clear(self._scratch_id)
        return data[:num_written]  # all of it, as a rule: then nothing is copied

    def load(self, target_id: int, data: bytes, first: int, last: int, shift: int = 0) -> bool:
        """Gives a sequence the saved cells of positions `first` to `last` - 1, moved by
        `shift`; False if llama.cpp refuses the data.
        """
        source = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
        num_read = llama_cpp.llama_state_seq_set_data(
            self.handle, source, len(data), self._scratch_id
        )
        if num_read > 0:
            self._move_scratch(first, last, shift)
            if shift:
                self._turning.add(target_id)
            llama_cpp.llama_memory_seq_cp(
                self._memory, self._scratch_id, target_id, first + shift, last + shift
            )
        self.clear(self._scratch_id)
        return bool(num_read > 0)

    def copy_moved(self, source_id: int, target_id: int, first: int, last: int, shift: int) -> bool:
        """Gives a sequence cells of its own with what another one's of positions `first`
        to `last` - 1 hold, moved by `shift`; False, and nothing changed, if these were
        moved since the last decode themselves, or llama.cpp refuses.

        A cell has one position for all who share it, so they are copied, some at a time:
        what that takes of memory is bounded.
        """
        for start in range(first, last, _COPIED_TOGETHER):
            end = min(start + _COPIED_TOGETHER, last)
            data = self.save(source_id, start, last=end)
            if data is None or not self.load(target_id, data, start, end, shift):
                self.clear_tail(target_id, first + shift)
                return False
        return True

    def _move_scratch(self, first: int, last: int, shift: int) -> None:
        """Moves the scratch sequence's cells of positions `first` to `last` - 1, and drops
        the others, whose positions they may get.
        """
        if shift:
            llama_cpp.llama_memory_seq_rm(self._memory, self._scratch_id, -1, first)
            llama_cpp.llama_memory_seq_rm(self._memory, self._scratch_id, last, -1)
            llama_cpp.llama_memory_seq_add(self._memory, self._scratch_id, first, last, shift)

    def _settle(self, sequence_id: int) -> bool:
        """Moves a state that was taken back to where copies of the sequence look for it,
        by saving and loading it; False if llama.cpp refuses.
        """
        size = llama_cpp.llama_state_seq_get_size_ext(self.handle, sequence_id, _STATE_ONLY)
        data = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data_ext(self.handle, data, size, sequence_id, _STATE_ONLY)
        num_read = llama_cpp.llama_state_seq_set_data_ext(
            self.handle, data, size, sequence_id, _STATE_ONLY
        )
        self._settling.discard(sequence_id)
        return bool(num_read > 0)

    def clear(self, sequence_id: int) -> None:
        """Takes every KV cell from a sequence."""
        self._turning.discard(sequence_id)
        self._settling.discard(sequence_id)
        llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, -1, -1)

    def clear_tail(self, sequence_id: int, first: int) -> None:
        """Takes the KV cells of the positions from `first` on from a sequence: of a model
        with a state, up to `rollback_states` tokens that the last decode computed.
        """
        is_done = llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, first, -1)
        assert is_done, "more than was kept of earlier states"
        if self._has_state:
            self._settling.add(sequence_id)


def _why_cells_stay(model: Model, memory: Any, kv_type: str) -> str:
    """Why they cannot, as a clause; empty where they can. `memory` is the context's."""
    if model.memory.has_state:
        return "this model has a state that all its tokens have made, not a cell for each"
    if not model.memory.shares_prefixes:
        return "this model looks at a sliding window of tokens"
    if not llama_cpp.llama_memory_can_shift(memory):
        return "llama.cpp cannot change the positions of this model's tokens"
    if llama_cpp.llama_model_rope_type(model.handle) == llama_cpp.LLAMA_ROPE_TYPE_NONE:
        return "this model's positions are not rotary ones"
    architecture = model.metadata("general.architecture")
    scaling = model.metadata(f"{architecture}.rope.scaling.type")
    factor = model.metadata(f"{architecture}.rope.scaling.attn_factor")
    if scaling not in _LENGTH_STAYS or (factor is not None and float(factor) != 1):
        return "this model's positions lengthen its keys (YaRN, LongRoPE): they would be once more"
    if not kv_type.startswith("f16") and not _turns_quantized(model, architecture):
        return (
            f"llama.cpp cannot turn {kv_type} keys of this model's head size (--kv-type f16 would "
            "do)"
        )
    return ""


def _turns_quantized(model: Model, architecture: str | None) -> bool:
    """Whether quantized keys are kept rotated, and are turned whole: llama.cpp dies of
    those that are not (build_rope_shift).
    """

    def count(name: str) -> int:
        value = model.metadata(f"{architecture}.{name}") or ""
        return int(value) if value.isdigit() else 0

    num_heads = count("attention.head_count")
    in_heads = count("embedding_length") // num_heads if num_heads else 0
    key_length = count("attention.key_length") or in_heads
    num_turned = count("rope.dimension_count") or key_length
    return key_length > 0 and key_length % _ROTATED_TOGETHER == 0 and num_turned == key_length


def _address(pointer: ctypes._Pointer[ctypes.c_float]) -> int:
    return ctypes.addressof(pointer.contents)


# llama.h, llama_decode
_CACHE_IS_FULL = 1
_MEANING = {2: "aborted", -1: "invalid batch"}


def _params(config: ContextConfig) -> llama_cpp.llama_context_params:
    params, sizes = llama_cpp.llama_context_default_params(), config.sizes
    params.n_ctx = sizes.kv_cells
    params.n_batch = sizes.max_rows
    params.n_ubatch = sizes.ubatch_rows
    params.n_seq_max = sizes.slots + 1  # and the scratch id
    params.n_rs_seq = sizes.rollback_states
    # One row of logits per sequence, and one per drafted token, is all we ask for; left
    # at 0, the buffers would hold logits for every row. Below n_seq_max it would abort.
    params.n_outputs_max = sizes.max_logit_rows
    params.n_threads = sizes.threads
    params.n_threads_batch = sizes.batch_threads
    params.kv_unified = True
    params.swa_full = False  # a sliding window's cells take no more than it needs
    k_type, _, v_type = sizes.kv_type.partition("/")
    params.type_k, params.type_v = KV_TYPES[k_type], KV_TYPES[v_type or k_type]
    on, off = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.flash_attn_type = on if sizes.flash_attention else off
    params.offload_kqv = config.offload_kv
    params.op_offload = config.offload_ops
    params.no_perf = True
    if config.of_heads:
        params.ctx_type = llama_cpp.LLAMA_CONTEXT_TYPE_MTP
    return params
