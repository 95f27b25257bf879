"""Rerankers that are language models: whether a document is relevant is whether the
model answers its prompt by one token or by another (Qwen3-Reranker).

Knows no checkpoint's files. Names and prompt are those of llama.cpp's converter; its
graph of qwen3 takes the two logits' softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import PoolingType
from numpy.typing import NDArray

from convert.gguf.header import Field, string_array, u32
from convert.safetensors_file import StoredType
from convert.tensors import OutputTensor, RowSource

TEMPLATE_NAME = "rerank"
JUDGE = "Judge whether the Document meets the requirements based on the Query and the Instruct"
# as Qwen3-Reranker's model card has it, with its own default for <Instruct>
TEMPLATE = (
    f"<|im_start|>system\n{JUDGE} provided. Note that the answer can only be "
    '"yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: {query}\n"
    "<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


@dataclass(frozen=True)
class Ranking:
    """The ids of the tokens by which a model says yes and no."""

    yes: int
    no: int


def ranking_fields(family_name: str) -> tuple[Field, ...]:
    return (
        u32(f"{family_name}.pooling_type", PoolingType.RANK.value),
        string_array(f"{family_name}.classifier.output_labels", ("yes", "no")),
    )


def with_ranking(tensors: Sequence[OutputTensor], ranking: Ranking) -> list[OutputTensor]:
    """`tensors` with the two rows of the output matrix in place of the whole of it."""
    by_name = {tensor.name: tensor for tensor in tensors}
    whole = by_name.pop("output.weight", by_name["token_embd.weight"])
    rows = ChosenRows(whole.source, (ranking.yes, ranking.no))
    head = OutputTensor("cls.output.weight", (2, whole.shape[1]), rows)
    return [*by_name.values(), head]


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of a matrix."""

    matrix: RowSource
    rows: tuple[int, ...]
    row_group: int = 1

    @property
    def stored_type(self) -> StoredType:
        return self.matrix.stored_type

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        return np.concatenate(
            [self.matrix.read_rows(row, row + 1) for row in self.rows[start:stop]]
        )
