"""The two ends of a request for vectors: texts become token ids, vectors become answers.

Knows no llama.cpp.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from appliance.engine.embedding import InputFrame, Vectors
from appliance.errors import BadRequest
from appliance.protocol.events import EmbedResult
from appliance.protocol.requests import EmbedRequest, RerankRequest, TextPrompt, TokenPrompt


class Tokenizer(Protocol):
    """What of a loaded model inputs need; implemented by `appliance.llama.model.Model`."""

    @property
    def num_vocab(self) -> int: ...

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...


class EmbeddingInputs:
    """`ranks`: the model scores pairs of a query and a document, and makes no vectors."""

    def __init__(self, tokenizer: Tokenizer, frame: InputFrame, *, ranks: bool) -> None:
        self._tokenizer = tokenizer
        self._frame = frame
        self._ranks = ranks

    def tokenize(self, request: EmbedRequest | RerankRequest) -> list[list[int]]:
        """Raises `BadRequest`: for inputs without a token, unknown ids, or vectors from
        a model that ranks.

        A rerank request is a pair for each document where the model ranks, else the
        query and then the documents.
        """
        if isinstance(request, EmbedRequest):
            if self._ranks:
                raise BadRequest(
                    "This model ranks documents and makes no embeddings: send it to /v1/rerank.",
                    param="model",
                )
            return [self._input(index, prompt) for index, prompt in enumerate(request.inputs)]
        query = self._tokens(request.query)
        documents = [
            self._tokens(document)[: request.max_document_tokens] for document in request.documents
        ]
        front, between, back = self._frame
        if self._ranks:
            return [[*front, *query, *between, *document, *back] for document in documents]
        return [
            [*front, *tokens, *back] or self._no_token("query") for tokens in (query, *documents)
        ]

    def _input(self, index: int, prompt: TextPrompt | TokenPrompt) -> list[int]:
        if isinstance(prompt, TextPrompt):
            tokens = [*self._frame.front, *self._tokens(prompt.text), *self._frame.back]
            return tokens or self._no_token(f"input[{index}]")
        unknown = next(
            (token for token in prompt.tokens if not 0 <= token < self._tokenizer.num_vocab), None
        )
        if unknown is not None:
            raise BadRequest(
                f"Token id {unknown} is not in the vocabulary of {self._tokenizer.num_vocab}.",
                param=f"input[{index}]",
            )
        return list(prompt.tokens)

    def _tokens(self, text: str) -> list[int]:
        return self._tokenizer.tokenize(text, parse_special=False)

    @staticmethod
    def _no_token(param: str) -> list[int]:
        raise BadRequest("This text has no token at all.", param=param)


def embedded(
    request_id: int,
    request: EmbedRequest | RerankRequest,
    vectors: Vectors,
    num_tokens: int,
    *,
    ranks: bool,
) -> EmbedResult:
    """The answer: unit vectors, or scores.

    A score is between 0 and 1 of a model that ranks, the logistic function of what its
    classifier says; without one it is the cosine of query and document.
    """
    if ranks:
        values = (1 / (1 + np.exp(-vectors[:, :1].astype(np.float64)))).astype(np.float32)
    elif isinstance(request, RerankRequest):
        unit = normalized(vectors)
        values = (unit[1:] @ unit[0])[:, None]
    else:
        values = normalized(vectors)
    return EmbedResult(request_id, values.astype("<f4").tobytes(), values.shape[1], num_tokens)


def normalized(vectors: Vectors) -> Vectors:
    """Each row at length 1; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
