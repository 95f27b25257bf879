"""A view of llama.cpp's `struct ggml_tensor` from Python.

Does not know what its numbers mean.

The callback of `cb_eval` is handed nothing but the address of one, and no exported
function says what a node's inputs are; so its layout is written down here, for the
pinned version (ggml.h), and compared with the library's own size.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import llama_cpp.llama_cpp as bindings
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import DTypeLike, NDArray

from convert.child import Refused

_MAX_DIMS = 4
_MAX_SRC = 10
_MAX_OP_PARAMS = 64 // ctypes.sizeof(ctypes.c_int32)
_MAX_NAME = 64
# the operators looked for are among these first ones; behind the last one the library
# reads nonsense
_MAX_OP = 64
_DTYPES: dict[int, DTypeLike] = {
    GGMLQuantizationType.F32.value: np.float32,
    GGMLQuantizationType.I32.value: np.int32,
}


class _Object(ctypes.Structure):
    """`struct ggml_object`, what ggml puts before every tensor."""

    _fields_ = (
        ("offs", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
        ("next", ctypes.c_void_p),
        ("type", ctypes.c_int),
        ("padding", ctypes.c_char * 4),
    )


class GgmlTensor(ctypes.Structure):
    """A node of a graph, or an input of one; `GgmlTensor.from_address` of a pointer
    that llama.cpp hands out.
    """

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * _MAX_DIMS),  # items along each axis, the innermost first
        ("nb", ctypes.c_size_t * _MAX_DIMS),  # bytes between them
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * _MAX_OP_PARAMS),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * _MAX_SRC),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * _MAX_NAME),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The outermost axis first."""
        inner, rows, matrices, outer = self.ne
        return outer, matrices, rows, inner

    def source(self, index: int) -> GgmlTensor:
        """An input that is there."""
        address = self.src[index]
        assert address is not None, f"the node has no input {index}"
        return GgmlTensor.from_address(address)

    def values(self) -> NDArray[Any]:
        """Its float32 or int32 numbers in place, shape `shape`: they hold as long as
        the graph does not go on.
        """
        dtype = np.dtype(_DTYPES[self.type])
        strides = tuple(reversed(self.nb))
        num_bytes = dtype.itemsize + sum(
            (items - 1) * stride for items, stride in zip(self.shape, strides, strict=True)
        )
        memory = (ctypes.c_char * num_bytes).from_address(self.data)
        values: NDArray[Any] = np.ndarray(self.shape, dtype, buffer=memory, strides=strides)
        return values


@dataclass(frozen=True)
class Operators:
    """The numbers of `enum ggml_op` that are wanted here: they move from version to
    version, their names do not.
    """

    mul_mat: int
    mul_mat_id: int


def find_operators() -> Operators:
    """Raises `Refused` if the library's tensors are not laid out as those above."""
    # the bindings' own handle: the very libggml that llama.cpp uses hangs on it
    library = bindings._lib
    overhead = library.ggml_tensor_overhead
    overhead.restype = ctypes.c_size_t
    expected = ctypes.sizeof(_Object) + ctypes.sizeof(GgmlTensor)
    if overhead() != expected:
        raise Refused(
            f"This llama.cpp has tensors of {overhead()} bytes, but {expected} are expected: it "
            "is not the version that this package is made for. Reinstall the package with its "
            "dependencies."
        )
    op_name = library.ggml_op_name
    op_name.argtypes, op_name.restype = [ctypes.c_int], ctypes.c_char_p
    numbers = {op_name(number): number for number in range(_MAX_OP)}
    return Operators(numbers[b"MUL_MAT"], numbers[b"MUL_MAT_ID"])
