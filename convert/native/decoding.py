"""A GGUF decoding windows of tokens in this process:
for children only, which native code may end.

Knows neither what the logits are for nor what the graph's nodes hold. Weights stay as
they lie in the file, mapped: of the ways through ggml's kernels this is the one that
works on every CPU, and whose results are the same on each.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.child import Refused

KV_TYPES = {
    "f16": GGMLQuantizationType.F16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q5_1": GGMLQuantizationType.Q5_1,
    "q4_0": GGMLQuantizationType.Q4_0,
}
BLOCK_ROWS = 128  # computed together: bounds the memory for logits, 4 bytes x vocabulary x rows
_LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR

# address of a ggml_tensor; whether it is only asked if the node is wanted
NodeCallback = Callable[[int, bool], bool]


class WindowDecoder:
    """One sequence of at most `window` tokens.

    Raises `Refused` for a file that llama.cpp does not load or decode.

    `kv_type` is one of `KV_TYPES`, or two as `K/V`. `on_node`: see `cb_eval` in
    llama.h; it sees the graph's nodes.
    """

    def __init__(
        self,
        path: Path,
        window: int,
        threads: int,
        kv_type: str = "f16",
        on_node: NodeCallback | None = None,
    ) -> None:
        self._path = path
        _error_log.install()
        self._raised: BaseException | None = None  # by `on_node`
        self._model = self._load_model()
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.num_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.train_ctx: int = llama_cpp.llama_model_n_ctx_train(self._model)
        # before memory is asked for: a mistyped number takes all there is
        if window > self.train_ctx:
            raise Refused(
                f"{path.name} was trained for contexts of {self.train_ctx} tokens, so windows of "
                f"{window} cannot be measured. Choose windows of at most {self.train_ctx} tokens."
            )
        params = _context_params(window, threads, kv_type)
        if on_node is not None:
            self._callback = _EVAL_CALLBACK(self._guard(on_node))  # kept alive here
            params.cb_eval = ctypes.cast(self._callback, type(params.cb_eval))
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise Refused(
                f"llama.cpp rejects {path.name} with a {kv_type} KV cache: {self._logged_errors()}"
            )
        self._batch = llama_cpp.llama_batch_init(BLOCK_ROWS, 0, 1)

    def tokenize(self, text: str) -> list[int]:
        """As llama.cpp's own tools read a text: special tokens around it as the
        vocabulary says, none inside it.
        """
        data = text.encode()
        capacity = len(data) + 16
        while True:
            buffer = (llama_cpp.llama_token * capacity)()
            count = llama_cpp.llama_tokenize(
                self._vocab, data, len(data), buffer, capacity, True, False
            )
            if count >= 0:
                return list(buffer[:count])
            capacity = -count

    def windows(self, tokens: Sequence[int], size: int) -> Iterator[list[int]]:
        """Consecutive whole windows; each begins with BOS, in the place of its first
        token, if the vocabulary adds it.

        Source: llama.cpp, tools/perplexity and tools/imatrix.
        """
        adds_bos, bos = (
            llama_cpp.llama_vocab_get_add_bos(self._vocab),
            llama_cpp.llama_vocab_bos(self._vocab),
        )
        for start in range(0, len(tokens) - size + 1, size):
            window = list(tokens[start : start + size])
            if adds_bos:
                window[0] = bos
            yield window

    def logits(self, window: Sequence[int], first: int) -> Iterator[NDArray[np.float32]]:
        """Decodes a window from an empty cache; yields the logits of its positions from
        `first` on, block by block.

        Each block, float32 [rows, vocabulary], holds until the next is asked for. A
        block that ends before `first` is not yielded.
        """
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        for start in range(0, len(window), BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, len(window))
            self._decode(window, start, stop, first)
            num_wanted = stop - max(start, first)
            if num_wanted > 0:
                pointer = llama_cpp.llama_get_logits(self._context)
                shape = (num_wanted, self.num_vocab)
                yield np.ctypeslib.as_array(
                    ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), shape
                )

    def _decode(self, window: Sequence[int], start: int, stop: int, first: int) -> None:
        batch = self._batch
        for row, position in enumerate(range(start, stop)):
            batch.token[row] = window[position]
            batch.pos[row] = position
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = 0
            batch.logits[row] = position >= first
        batch.n_tokens = stop - start
        status = llama_cpp.llama_decode(self._context, batch)
        if self._raised is not None:
            raise self._raised
        if status != 0:
            raise Refused(
                f"llama.cpp cannot decode with {self._path.name} (status {status}): "
                f"{self._logged_errors()}"
            )

    def _guard(self, on_node: NodeCallback) -> Callable[[int, bool, int | None], bool]:
        """C lies between `on_node` and `_decode`: what the one raises ends the graph,
        and the other raises it again.
        """

        def call(node: int, asks: bool, _data: int | None) -> bool:
            if self._raised is not None:
                return False
            try:
                return on_node(node, asks)
            except BaseException as error:  # noqa: BLE001 - raised again by `_decode`
                self._raised = error
                return False

        return call

    def _load_model(self) -> Any:
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = False
        params.n_gpu_layers = 0
        model = llama_cpp.llama_model_load_from_file(os.fsencode(self._path), params)
        if not model:
            raise Refused(f"llama.cpp cannot load {self._path}: {self._logged_errors()}")
        is_encoder = llama_cpp.llama_model_has_encoder(
            model
        ) or not llama_cpp.llama_model_has_decoder(model)
        if is_encoder or _looks_ahead(model):
            raise Refused(f"{self._path.name} is not a model that predicts the next token.")
        return model

    def _logged_errors(self) -> str:
        return _error_log.take() or "no reason given"


_EVAL_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)


def _looks_ahead(model: Any) -> bool:
    """Whether each token sees those behind it, as in BERT,
    which llama.cpp calls a decoder too.
    """
    architecture = _metadata(model, "general.architecture")
    return _metadata(model, f"{architecture}.attention.causal") == "false"


def _metadata(model: Any, key: str) -> str:
    """A value of the file as text; empty if there is none."""
    buffer = ctypes.create_string_buffer(256)
    llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace")


def parse_kv_type(text: str) -> tuple[GGMLQuantizationType, GGMLQuantizationType]:
    """Types of K and V. Raises `Refused` for unknown ones."""
    k_type, _, v_type = text.partition("/")
    try:
        return KV_TYPES[k_type], KV_TYPES[v_type or k_type]
    except KeyError as error:
        raise Refused(
            f"Unknown KV cache type {error}. Known types: {', '.join(KV_TYPES)}, or two of them "
            "as K/V."
        ) from error


def _context_params(window: int, threads: int, kv_type: str) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = window
    params.n_batch = params.n_ubatch = BLOCK_ROWS
    params.n_outputs_max = BLOCK_ROWS
    params.n_seq_max = 1
    params.n_threads = params.n_threads_batch = threads
    k_type, v_type = parse_kv_type(kv_type)
    params.type_k, params.type_v = k_type.value, v_type.value
    params.offload_kqv = False
    params.op_offload = False
    params.no_perf = True
    return params


class _ErrorLog:
    """What llama.cpp says of errors, whichever model they are about: it has one log."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=5)
        self._callback = llama_cpp.llama_log_callback(self._on_log)  # kept alive here

    def install(self) -> None:
        llama_cpp.llama_log_set(self._callback, None)

    def take(self) -> str:
        """Everything since the last time, as far as it is worth showing."""
        text = "".join(self._lines).strip()
        self._lines.clear()
        return text

    def _on_log(self, level: int, text: bytes, _data: object) -> None:
        if level == _LEVEL_ERROR:
            self._lines.append(text.decode(errors="replace"))


_error_log = _ErrorLog()
