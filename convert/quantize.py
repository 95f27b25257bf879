"""Rows of float32 into rows of a ggml type, through ggml's own reference kernels.

Knows no files and no recipes.

`Kernel` is the seam: a faster kernel that gives the same bytes may take the place of
`GgmlKernel`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from pathlib import Path
from typing import Protocol

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from convert.errors import BadInput, ConvertError


class Kernel(Protocol):
    """Quantizes rows; called from several threads at once."""

    def quantize(
        self,
        rows: NDArray[np.float32],
        ggml_type: GGMLQuantizationType,
        weights: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        """The bytes of `rows`, shape (num_rows, row_items), as `ggml_type`.

        `weights`, shape (row_items,), says how much an error in each column costs;
        types that look at none ignore it. Raises `Unrepresentable` when the type cannot
        hold the values.
        """


class Unrepresentable(BadInput):
    """Finite values that become infinite in the target type."""

    kind = "unrepresentable"


def row_bytes(row_items: int, ggml_type: GGMLQuantizationType) -> int:
    """Bytes of one row; `row_items` must be a multiple of the type's block."""
    block_items, block_bytes = GGML_QUANT_SIZES[ggml_type]
    assert row_items % block_items == 0, f"{row_items} items do not fill blocks of {ggml_type.name}"
    return row_items // block_items * block_bytes


def tensor_bytes(shape: tuple[int, ...], ggml_type: GGMLQuantizationType) -> int:
    return math.prod(shape[:-1]) * row_bytes(shape[-1], ggml_type)


class GgmlKernel:
    """ggml's reference quantizers (`ggml_quantize_chunk`, ggml.h); ctypes releases the
    GIL during a call.

    Only libggml-base is loaded, and nothing of llama_cpp is imported: the library works
    on plain memory, without devices, threads or state of its own.
    """

    def __init__(self, library: Path) -> None:
        base = ctypes.CDLL(str(library))
        self._chunk = base.ggml_quantize_chunk
        self._chunk.restype = ctypes.c_size_t
        self._chunk.argtypes = [
            ctypes.c_int,  # type
            ctypes.c_void_p,  # float32 values
            ctypes.c_void_p,  # destination
            ctypes.c_int64,  # first item
            ctypes.c_int64,  # rows
            ctypes.c_int64,  # items per row
            ctypes.c_void_p,  # importance matrix, or null
        ]
        # builds the lookup tables of the IQ types; idempotent, takes a lock
        self._init = base.ggml_quantize_init
        self._init.restype = None
        self._init.argtypes = [ctypes.c_int]
        self._validate = base.ggml_validate_row_data
        self._validate.restype = ctypes.c_bool
        self._validate.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]

    def quantize(
        self,
        rows: NDArray[np.float32],
        ggml_type: GGMLQuantizationType,
        weights: NDArray[np.float32] | None = None,
    ) -> NDArray[np.uint8]:
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous
        num_rows, row_items = rows.shape
        assert weights is None or (weights.dtype == np.float32 and weights.shape == (row_items,))
        assert weights is None or weights.flags.c_contiguous
        quantized = np.empty(num_rows * row_bytes(row_items, ggml_type), dtype=np.uint8)
        self._init(ggml_type.value)
        importance = None if weights is None else weights.ctypes.data
        written = self._chunk(
            ggml_type.value,
            rows.ctypes.data,
            quantized.ctypes.data,
            0,
            num_rows,
            row_items,
            importance,
        )
        assert written == quantized.nbytes, f"ggml wrote {written} bytes, not {quantized.nbytes}"
        if not self._validate(ggml_type.value, quantized.ctypes.data, quantized.nbytes):
            raise Unrepresentable(
                f"The weights are too large for {ggml_type.name}. Choose BF16 or F32."
            )
        return quantized


def load_ggml_kernel() -> Kernel:
    """The kernel of the installed llama-cpp-python.

    Raises `ConvertError` where there is none.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise ConvertError(
            "llama-cpp-python, which provides the library that quantizes, is not installed. "
            "Reinstall this package with its dependencies."
        )
    suffix = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
    for location in spec.submodule_search_locations:
        library = Path(location) / "lib" / f"libggml-base{suffix}"
        if library.exists():
            return GgmlKernel(library)
    raise ConvertError(
        f"The installed llama-cpp-python does not contain libggml-base{suffix}. Reinstall it."
    )
