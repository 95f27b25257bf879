"""Which weights a CPU keeps a second, rearranged copy of, and how large it is.

Knows no other buffer, and not whether repacking is switched on.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.store.gguf_header import GgufHeader


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
    """Matrices of these types; an embedding that is also the output matrix is
    multiplied with, so it counts.
    """
    output_is_embedding = all(tensor.name != "output.weight" for tensor in header.tensors)
    return sum(
        tensor.num_bytes
        for tensor in header.tensors
        if tensor.ggml_type.name in types
        and len(tensor.shape) > 1
        and (output_is_embedding or tensor.name != "token_embd.weight")
    )
