"""Refuses tensors that would end llama.cpp: of number formats that it has no computation
for, or absent where it takes them for granted.

Knows formats, and the roles that names tell, and no architecture.

Source: the operations of ggml's CPU backend (ggml-cpu.c, binary-ops.cpp): products know no
whole numbers, no F64 and no formats of intermediate results; sums and products by element,
which is what norms and biases are for, want F32 beside activations of F32. And what
`python -m tests.mutants` found.
"""

from __future__ import annotations

import math
import re

from appliance.store.gguf_header import GgufHeader, Tensor
from appliance.store.gguf_values import bad_file

_NEVER_WEIGHTS = frozenset({"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"})
_OF_WHOLE_NUMBERS = "tid2eid"  # in the name of a table of experts by token
_BY_ELEMENT = (".bias", "_norm.weight")
_ATTENTION = re.compile(r"(blk\.\d+\.attn_)(output\.weight|q)")


def check_tensors(header: GgufHeader) -> None:
    """Raises `BadModelFile`, which names the tensor."""
    for tensor in header.tensors:
        _check_type(header, tensor)
    _check_attention(header)


def _check_type(header: GgufHeader, tensor: Tensor) -> None:
    name = tensor.ggml_type.name
    if name == "F32":
        return
    if name in _NEVER_WEIGHTS and not (name == "I32" and _OF_WHOLE_NUMBERS in tensor.name):
        raise bad_file(
            header.path, f"its tensor {tensor.name} is of type {name}, which weights cannot have"
        )
    if math.prod(tensor.shape[1:]) == 1 or tensor.name.endswith(_BY_ELEMENT):
        raise bad_file(
            header.path,
            f"its tensor {tensor.name} is of type {name}, but norms, biases and other vectors must "
            "be F32",
        )


def _check_attention(header: GgufHeader) -> None:
    """A layer whose attention has an output has queries, under one name or another."""
    roles: dict[str, set[str]] = {}
    for tensor in header.tensors:
        found = _ATTENTION.match(tensor.name)
        if found is not None:
            roles.setdefault(found[1], set()).add(found[2])
    for prefix, seen in roles.items():
        if "q" not in seen:
            raise bad_file(header.path, f"it has {prefix}output.weight, and no {prefix}q or qkv")
