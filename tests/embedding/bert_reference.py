"""The forward pass of a BERT encoder in numpy, from its checkpoint alone: what the
original would answer.

Knows neither llama.cpp nor our converter. Source: https://arxiv.org/abs/1810.04805,
with mean pooling and L2 normalization as https://www.sbert.net does them. Exact to
float64, so that what differs is the other side's doing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Floats = NDArray[np.float64]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _read_floats(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The F32 tensors of a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if entry.get("dtype") == "F32":
            begin, end = entry["data_offsets"]
            yield (
                name,
                np.frombuffer(data[start + begin : start + end], "<f4").reshape(entry["shape"]),
            )


@dataclass(frozen=True, kw_only=True)
class BertReference:
    """Texts to unit vectors."""

    tensors: dict[str, Floats]
    num_layers: int
    num_heads: int
    epsilon: float
    tokenizer: Tokenizer

    @classmethod
    def read(cls, checkpoint: Path) -> BertReference:
        config = json.loads((checkpoint / "config.json").read_text())
        tensors = {
            name: tensor.astype(np.float64)
            for name, tensor in _read_floats(checkpoint / "model.safetensors")
        }
        tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(
            tensors=tensors,
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            epsilon=config["layer_norm_eps"],
            tokenizer=tokenizer,
        )

    def tokens(self, text: str) -> list[int]:
        """With `[CLS]` and `[SEP]` around them."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def embed(self, tokens: list[int]) -> Floats:
        """The mean of all tokens' last hidden states, of length 1."""
        mean = self.hidden(tokens).mean(axis=0)
        unit: Floats = mean / np.linalg.norm(mean)
        return unit

    def hidden(self, tokens: list[int]) -> Floats:
        """The last hidden states, [tokens, size]."""
        tensors = self.tensors
        rows = (
            tensors["embeddings.word_embeddings.weight"][tokens]
            + tensors["embeddings.position_embeddings.weight"][: len(tokens)]
            + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        rows = self._norm("embeddings.LayerNorm", rows)
        for layer in range(self.num_layers):
            rows = self._layer(f"encoder.layer.{layer}.", rows)
        return rows

    def _layer(self, at: str, rows: Floats) -> Floats:
        attended = self._dense(
            f"{at}attention.output.dense", self._attention(f"{at}attention.self.", rows)
        )
        rows = self._norm(f"{at}attention.output.LayerNorm", attended + rows)
        inner = self._dense(f"{at}intermediate.dense", rows)
        inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)))
        return self._norm(f"{at}output.LayerNorm", self._dense(f"{at}output.dense", inner) + rows)

    def _attention(self, at: str, rows: Floats) -> Floats:
        count, width = rows.shape
        query, key, value = (
            self._dense(at + name, rows).reshape(count, self.num_heads, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // self.num_heads)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        together: Floats = (weights @ value).transpose(1, 0, 2).reshape(count, width)
        return together

    def _dense(self, name: str, rows: Floats) -> Floats:
        return rows @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def _norm(self, name: str, rows: Floats) -> Floats:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.epsilon)
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
