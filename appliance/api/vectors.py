"""Embeddings as arrays, from a result's bytes. Knows no wire format."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from appliance.errors import BadRequest
from appliance.protocol.events import EmbedResult

EmbeddingRows = npt.NDArray[np.float32]


def vectors_of(embedded: EmbedResult) -> EmbeddingRows:
    """float32 [inputs, values]."""
    return np.frombuffer(embedded.values, "<f4").reshape(-1, embedded.num_values)


def shortened(vectors: EmbeddingRows, num_values: int | None) -> EmbeddingRows:
    """The first `num_values` of each, again at length 1.

    Raises `BadRequest` for more than there are.
    """
    size = vectors.shape[1]
    if num_values is None or num_values == size:
        return vectors
    if num_values > size:
        raise BadRequest(
            f"This model's embeddings have {size} dimensions; {num_values} were asked for.",
            param="dimensions",
        )
    cut = vectors[:, :num_values]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return (cut / np.where(lengths > 0, lengths, 1)).astype(np.float32)
