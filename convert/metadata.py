"""The `general.*` entries of a GGUF. Knows no hyper-parameters and no tokenizers."""

from __future__ import annotations

from collections.abc import Sequence

from gguf import GGML_QUANT_VERSION, size_label

from convert.gguf.header import Field, string, u32
from convert.importance.imatrix_file import ImportanceMatrix
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


def importance_fields(matrix: ImportanceMatrix, file_name: str) -> tuple[Field, ...]:
    """By which importance matrix a file was quantized; keys as llama-quantize writes
    them (tools/quantize).
    """
    dataset = [string("quantize.imatrix.dataset", matrix.datasets[0])] if matrix.datasets else []
    return (
        string("quantize.imatrix.file", file_name),
        *dataset,
        u32("quantize.imatrix.entries_count", len(matrix.entries)),
        u32("quantize.imatrix.chunks_count", matrix.chunk_count),
    )
