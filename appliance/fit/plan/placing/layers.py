"""What each layer of a model takes:
its weights, from the tensor table, and its KV cache.

Knows no GPU and no RAM.

Which tensor belongs to which layer: llama.cpp src/llama-arch.cpp, `LLM_TENSOR_INFOS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from appliance.fit.plan.footprint import ServeSize
from appliance.fit.plan.kv_cache import kv_layer_bytes
from appliance.fit.plan.shape import ModelShape
from appliance.fit.plan.weights import INPUT_NAMES
from appliance.store.gguf_header import GgufHeader, Tensor

_BLOCK = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class LayerBytes:
    """Bytes of a model's layers in llama.cpp's order: every block, then the output
    layer, which has no KV cache.
    """

    weights_bytes: tuple[int, ...]
    kv_bytes: tuple[int, ...]
    largest_in_block_bytes: int  # the largest single tensor of any block
    # Token embeddings among the output layer's weights, which stay in RAM as well; 0
    # where the file has an output matrix.
    tied_bytes: int

    @property
    def num_layers(self) -> int:
        """As `n_gpu_layers` counts them: blocks and the output layer."""
        return len(self.weights_bytes)


def layer_bytes(header: GgufHeader, shape: ModelShape, size: ServeSize) -> LayerBytes:
    """Of the model in this file, with a KV cache of `size`.

    What is in no block and no input is the output layer's.
    """
    num_blocks = len(shape.num_kv_heads)
    tensors: list[list[Tensor]] = [[] for _ in range(num_blocks + 1)]
    for tensor in header.tensors:
        if tensor.name not in INPUT_NAMES:  # no work for a GPU: llama.cpp leaves them in RAM
            match = _BLOCK.match(tensor.name)
            tensors[min(int(match[1]), num_blocks) if match else num_blocks].append(tensor)
    tied_bytes = 0
    if all(tensor.name != "output.weight" for tensor in header.tensors):
        tied = [tensor for tensor in header.tensors if tensor.name == "token_embd.weight"]
        tied_bytes = sum(tensor.num_bytes for tensor in tied)
        tensors[num_blocks] += tied
    kv_bytes = [
        num_bytes + size.num_states * shape.state.layer_bytes(at)
        for at, num_bytes in enumerate(kv_layer_bytes(shape, size.sizes))
    ]
    return LayerBytes(
        weights_bytes=tuple(sum(tensor.num_bytes for tensor in layer) for layer in tensors),
        kv_bytes=(*kv_bytes, 0),
        largest_in_block_bytes=max(
            (tensor.num_bytes for block in tensors[:-1] for tensor in block), default=0
        ),
        tied_bytes=tied_bytes,
    )
