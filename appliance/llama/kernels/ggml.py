"""Small graphs, by ggml's own C interface: made, filled and computed on a back end.

Knows which functions there are, and no kernel. A null pointer ends in an assertion here,
and most wrong uses in one of ggml's, which ends the process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp.llama_cpp import _lib as libllama

Pointer = int
_OVERHEAD_BYTES = 1 << 20  # of a context that holds no data: tensors' descriptions and a graph


class _InitParams(ctypes.Structure):
    """ggml.h, struct ggml_init_params."""

    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


_P, _I32, _I64, _F32 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ggml_init": (_P, [_InitParams]),
    "ggml_free": (None, [_P]),
    "ggml_new_tensor_4d": (_P, [_P, _I32, _I64, _I64, _I64, _I64]),
    "ggml_nbytes": (ctypes.c_size_t, [_P]),
    "ggml_type_name": (ctypes.c_char_p, [_I32]),
    "ggml_quantize_chunk": (ctypes.c_size_t, [_I32, _P, _P, _I64, _I64, _I64, _P]),
    "ggml_row_size": (ctypes.c_size_t, [_I32, _I64]),
    "ggml_mul_mat": (_P, [_P, _P, _P]),
    "ggml_mul_mat_id": (_P, [_P, _P, _P, _P]),
    "ggml_add": (_P, [_P, _P, _P]),
    "ggml_mul": (_P, [_P, _P, _P]),
    "ggml_rms_norm": (_P, [_P, _P, _F32]),
    "ggml_rope": (_P, [_P, _P, _P, _I32, _I32]),
    "ggml_swiglu_split": (_P, [_P, _P, _P]),
    "ggml_permute": (_P, [_P, _P, _I32, _I32, _I32, _I32]),
    "ggml_flash_attn_ext": (_P, [_P, _P, _P, _P, _P, _F32, _F32, _F32]),
    "ggml_flash_attn_ext_set_prec": (None, [_P, _I32]),
    "ggml_new_graph": (_P, [_P]),
    "ggml_build_forward_expand": (None, [_P, _P]),
    "ggml_backend_free": (None, [_P]),
    "ggml_backend_buffer_free": (None, [_P]),
    "ggml_backend_dev_by_type": (_P, [_I32]),
    "ggml_backend_dev_backend_reg": (_P, [_P]),
    "ggml_backend_reg_dev_get": (_P, [_P, ctypes.c_size_t]),
    "ggml_backend_reg_get_proc_address": (_P, [_P, ctypes.c_char_p]),
    "ggml_backend_dev_init": (_P, [_P, ctypes.c_char_p]),
    "ggml_backend_alloc_ctx_tensors": (_P, [_P, _P]),
    "ggml_backend_tensor_set": (None, [_P, _P, ctypes.c_size_t, ctypes.c_size_t]),
    "ggml_backend_tensor_get": (None, [_P, _P, ctypes.c_size_t, ctypes.c_size_t]),
    "ggml_backend_graph_compute": (_I32, [_P, _P]),
}
_PRECISION_F32 = 10  # enum ggml_prec
_CPU = 0  # enum ggml_backend_dev_type


def _function(name: str) -> ctypes._NamedFuncPointer:
    function: ctypes._NamedFuncPointer = getattr(libllama, name)
    function.restype, function.argtypes = _SIGNATURES[name]
    return function


class _Functions:
    """ggml's functions without their prefix, each looked up once."""

    def __getattr__(self, name: str) -> ctypes._NamedFuncPointer:
        function = _function(f"ggml_{name}")
        setattr(self, name, function)
        return function


functions = _Functions()


def type_number(name: str) -> int | None:
    """Of a type by its name in small letters."""
    for number in range(40):
        found: bytes | None = functions.type_name(number)
        if found is not None and found.decode().lower() == name:
            return number
    return None


def quantized(values: npt.NDArray[np.float32], type_: int) -> bytes:
    """Rows of `values`, float32 [rows, columns], in another type."""
    rows, columns = values.shape
    out = ctypes.create_string_buffer(rows * functions.row_size(type_, columns))
    data = np.ascontiguousarray(values, np.float32)
    functions.quantize_chunk(type_, data.ctypes.data, out, 0, rows, columns, None)
    return out.raw


@dataclass(frozen=True)
class Backend:
    """What computes graphs."""

    handle: Pointer


def cpu_backend(threads: int) -> Backend:
    """ggml's own."""
    return _backend(functions.backend_dev_by_type(_CPU), threads)


def backend_of(registry: Pointer, threads: int) -> Backend:
    """The first device of a back end that was loaded."""
    return _backend(functions.backend_reg_dev_get(registry, 0), threads)


def _backend(device: Pointer, threads: int) -> Backend:
    handle = functions.backend_dev_init(device, None)
    assert handle
    registry = functions.backend_dev_backend_reg(device)
    address = functions.backend_reg_get_proc_address(registry, b"ggml_backend_set_n_threads")
    assert address
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(address)(handle, threads)
    return Backend(handle)


class Graph:
    """Tensors with their data, and one result. `close` frees them."""

    def __init__(self) -> None:
        self.context: Pointer = functions.init(_InitParams(_OVERHEAD_BYTES, None, True))
        assert self.context
        self._data: list[tuple[Pointer, bytes]] = []
        self._result: Pointer = 0
        self._graph: Pointer = 0
        self._buffer: Pointer = 0

    def tensor(self, type_: int, shape: Sequence[int], data: bytes) -> Pointer:
        """`shape` as ggml has it: the innermost first."""
        sizes = [*shape, 1, 1, 1, 1][:4]
        tensor: Pointer = functions.new_tensor_4d(self.context, type_, *sizes)
        assert functions.nbytes(tensor) == len(data), (shape, len(data))
        self._data.append((tensor, data))
        return tensor

    def finish(self, result: Pointer, memory_of: Backend) -> None:
        """The graph of what `result` is made of, in memory, with its data."""
        self._result = result
        self._graph = functions.new_graph(self.context)
        functions.build_forward_expand(self._graph, result)
        self._buffer = functions.backend_alloc_ctx_tensors(self.context, memory_of.handle)
        assert self._buffer
        for tensor, data in self._data:
            functions.backend_tensor_set(tensor, data, 0, len(data))
        self._data.clear()

    def compute(self, backend: Backend) -> None:
        status = functions.backend_graph_compute(backend.handle, self._graph)
        assert status == 0, status

    def result(self) -> npt.NDArray[np.float32]:
        found = np.empty(functions.nbytes(self._result) // 4, np.float32)
        functions.backend_tensor_get(self._result, found.ctypes.data, 0, found.nbytes)
        return found

    def close(self) -> None:
        functions.backend_buffer_free(self._buffer)
        functions.free(self.context)


def flash_attention(
    graph: Graph, q: Pointer, k: Pointer, v: Pointer, mask: Pointer, *, scale: float
) -> Pointer:
    """As llama.cpp asks for it."""
    node: Pointer = functions.flash_attn_ext(graph.context, q, k, v, mask, scale, 0.0, 0.0)
    functions.flash_attn_ext_set_prec(node, _PRECISION_F32)
    return node
