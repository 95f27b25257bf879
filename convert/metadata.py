"""The `general.*` entries of a GGUF. Knows no hyper-parameters and no tokenizers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gguf import GGML_QUANT_VERSION, LlamaFileType, Metadata, size_label

from convert.gguf.header import Field, string, string_array, u32
from convert.importance.imatrix_file import ImportanceMatrix
from convert.source.card import ModelCard
from convert.tensors import OutputTensor

_HUB = "https://huggingface.co/"
_HUB_ID = re.compile(rf"(?:{re.escape(_HUB)})?(?:([\w.-]+)/)?([\w.-]+)/?")
# by the card's key, as Hugging Face defines them, or as converters look for them
_TEXTS = {
    "license_name": "general.license.name",
    "license_link": "general.license.link",
    "author": "general.author",
    "model_creator": "general.author",
}


def general_fields(
    architecture: str, name: str, file_type: LlamaFileType, tensors: Sequence[OutputTensor]
) -> tuple[Field, ...]:
    """Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#general-metadata."""
    num_params = sum(tensor.num_items for tensor in tensors)
    return (
        string("general.architecture", architecture),
        string("general.type", "model"),
        string("general.name", name),
        string("general.size_label", size_label(num_params, num_params, 0, 0)),
        u32("general.file_type", file_type.value),
        u32("general.quantization_version", GGML_QUANT_VERSION),
    )


def card_fields(card: ModelCard) -> tuple[Field, ...]:
    """What a model card says of a model's origin, under the names that llama.cpp's
    converter uses (`gguf.Metadata`).
    """
    fields: dict[str, Field] = {}
    licences = card.values("license")
    if licences:
        fields["license"] = string("general.license", ",".join(licences))
    for key, target in _TEXTS.items():
        value = card.value(key)
        if value is not None:
            fields.setdefault(target, string(target, value))
    lists = {
        "general.tags": [*card.values("tags"), *card.values("pipeline_tag")],
        "general.languages": [*card.values("languages"), *card.values("language")],
    }
    for target, values in lists.items():
        if values:
            fields[target] = string_array(target, dict.fromkeys(values))
    return (
        *fields.values(),
        *_sources("general.base_model", card.values("base_model")),
        *_sources("general.dataset", card.values("datasets")),
    )


def _sources(prefix: str, ids: Sequence[str]) -> Iterator[Field]:
    """Repositories that a model was made from; a path on somebody's disk is none."""
    matches = [match for match in map(_HUB_ID.fullmatch, ids) if match]
    if not matches:
        return
    yield u32(f"{prefix}.count", len(matches))
    for index, (owner, name) in enumerate(match.groups() for match in matches):
        yield string(f"{prefix}.{index}.name", _title(name))
        if owner:
            yield string(f"{prefix}.{index}.organization", _title(owner))
            yield string(f"{prefix}.{index}.repo_url", f"{_HUB}{owner}/{name}")


def _title(name: str) -> str:
    """A repository's name as gguf spells it in words."""
    title: str = Metadata.id_to_title(name)  # type: ignore[no-untyped-call]  # of gguf's
    return title


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
