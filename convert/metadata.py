"""The `general.*` entries of a GGUF. Knows no hyper-parameters and no tokenizers."""

from __future__ import annotations

from collections.abc import Sequence

from gguf import GGML_QUANT_VERSION, size_label

from convert.gguf_header import Field, string, u32
from convert.recipe import Mixture
from convert.tensors import OutputTensor


def general_fields(
    architecture: str, name: str, mixture: Mixture, tensors: Sequence[OutputTensor]
) -> tuple[Field, ...]:
    """Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#general-metadata."""
    num_params = sum(tensor.num_items for tensor in tensors)
    return (
        string("general.architecture", architecture),
        string("general.type", "model"),
        string("general.name", name),
        string("general.size_label", size_label(num_params, num_params, 0, 0)),
        u32("general.file_type", mixture.file_type.value),
        u32("general.quantization_version", GGML_QUANT_VERSION),
    )
