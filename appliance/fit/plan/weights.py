"""What of a file's weights is in memory: which a CPU keeps a second, rearranged copy of,
and which rows of tables are read.

Knows no other buffer, and not whether repacking is switched on.

Gemma 3n, Gemma 4's small ones and others have a vector for each token and layer
(per-layer embeddings): 40 % of the file, and a row of some kilobytes for each token that
is read. Where the file is mapped, the kernel keeps the rows that are used.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.protocol.file_range import FileRange
from appliance.store.gguf_header import GgufHeader, Tensor

# Rows are looked up in them; nothing is multiplied.
INPUT_NAMES = frozenset(
    f"{name}.weight"
    for name in ("token_embd", "position_embd", "token_types", "per_layer_token_embd")
)
_TABLES = frozenset({"per_layer_token_embd.weight"})
_PAGE = 4096
# Different tokens that people's texts are made of, and those of all requests at once:
# WikiText's first 100,000 tokens are of 9,800 kinds, in a vocabulary of 128,000.
_USUAL_ROWS = 16384


def repacked_types(cpu_flags: Iterable[str]) -> frozenset[str]:
    """The weight formats of which a CPU with these flags
    of /proc/cpuinfo gets a rearranged copy.

    From ggml-cpu/repack.cpp (`ggml_repack_get_optimal_repack_type`) and
    ggml-cpu/amx/common.h; a library built without AMX repacks fewer.
    """
    flags = set(cpu_flags)
    types: set[str] = set()
    if "avx2" in flags:
        types |= {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}
    if "avx512f" in flags:
        types |= {"Q2_K"}
    if "amx_int8" in flags:
        types |= {"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"}
    if "asimddp" in flags or "i8mm" in flags:  # 64-bit Arm
        types |= {"Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "Q8_0", "Q1_0"}
    return frozenset(types)


def repacked_bytes(header: GgufHeader, types: frozenset[str]) -> int:
    """Matrices of these types. Of those that rows are looked up in, only an embedding
    that is also the output matrix is multiplied with, so it counts.
    """
    has_output = any(tensor.name == "output.weight" for tensor in header.tensors)
    kept = frozenset() if has_output else frozenset({"token_embd.weight"})
    return sum(
        tensor.num_bytes
        for tensor in header.tensors
        if tensor.ggml_type.name in types
        and len(tensor.shape) > 1
        and tensor.name not in INPUT_NAMES - kept
    )


def tables_of(header: GgufHeader) -> tuple[Tensor, ...]:
    """None of a model that is split over several files, which is read whole."""
    if header.integer("split.count", 0) > 1:
        return ()
    return tuple(tensor for tensor in header.tensors if tensor.name in _TABLES)


def ranges_of(header: GgufHeader) -> tuple[FileRange, ...]:
    """Where they are in the file."""
    return tuple(FileRange(table.offset, table.num_bytes) for table in tables_of(header))


def touched_bytes(table: Tensor, kv_cells: int) -> int:
    """What of a table is in memory while it is served with so many cells: whole pages,
    for a row hardly ever begins with one.
    """
    num_rows = table.shape[-1]
    row_pages = -(-table.num_bytes // num_rows // _PAGE) + 1
    used = min(num_rows, max(_USUAL_ROWS, kv_cells))
    return min(used * row_pages * _PAGE, table.num_bytes)
