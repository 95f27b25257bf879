"""Requests for vectors, prepared:
texts become token ids, with what the model wants around them.

Knows no engine's queue and no llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from appliance.engine.embedding import InputFrame
from appliance.errors import BadRequest
from appliance.protocol.requests import (
    EmbedRequest,
    RerankRequest,
    TextPrompt,
    TextRole,
    TokenPrompt,
)
from appliance.worker.child.tokenizing.rank_prompt import RANK_TEMPLATE_KEY, RankPrompt
from appliance.worker.frames import Embed, Submit

# Keys of the file, of what sentence-transformers puts in front of a query or a document;
# `appliance-convert` writes them.
ROLE_PROMPT_KEY = "sentence_transformers.prompt"


@dataclass(frozen=True)
class PreparedInputs:
    """A request for vectors whose inputs are tokenized."""

    request_id: int
    request: EmbedRequest | RerankRequest
    inputs: list[list[int]]


class InputVocabulary(Protocol):
    """What of a loaded model inputs need;
    implemented by `appliance.llama.model.Model`.
    """

    @property
    def num_vocab(self) -> int: ...

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...

    def metadata(self, key: str) -> str | None: ...

    def special_pieces(self, text: str) -> list[int | str] | None: ...

    def read_piece(self, token: int) -> bytes: ...


class EmbeddingInputs:
    """Implements `appliance.worker.child.tokenizing.lanes.Preparing`.

    `ranks`: the model scores pairs of a query and a document, and makes no vectors.
    """

    def __init__(self, vocabulary: InputVocabulary, frame: InputFrame, *, ranks: bool) -> None:
        self._vocabulary = vocabulary
        self._frame = frame
        self._ranks = ranks
        template = vocabulary.metadata(RANK_TEMPLATE_KEY) if ranks else None
        self._prompt = RankPrompt(vocabulary, template) if template else None
        # what belongs in front of a text, by what it is
        self._fronts = {
            role: vocabulary.metadata(f"{ROLE_PROMPT_KEY}.{role.value}") or "" for role in TextRole
        }

    def prepare(
        self,
        message: Submit | Embed,
        *,
        template_cpu_s: float,  # noqa: ARG002 - of the protocol
    ) -> PreparedInputs:
        """Raises `BadRequest`, for a `Submit` too: nothing is written here, by no template."""
        if isinstance(message, Submit):
            raise BadRequest(
                "This is an embedding model: it does not generate text. Use it with "
                "/v1/embeddings or /v1/rerank, or name another model.",
                param="model",
            )
        request = message.request
        return PreparedInputs(message.request_id, request, self._tokenize(request))

    def _tokenize(self, request: EmbedRequest | RerankRequest) -> list[list[int]]:
        """Raises `BadRequest`: for inputs without a token, unknown ids, or vectors from
        a model that ranks.

        A rerank request is a pair for each document where the model ranks, else the
        query and then the documents.
        """
        if isinstance(request, EmbedRequest):
            if self._ranks:
                raise BadRequest(
                    "This model ranks documents and makes no embeddings. Use it with /v1/rerank.",
                    param="model",
                )
            prompt = "" if request.role is None else self._fronts[request.role]
            return [self._input(at, given, prompt) for at, given in enumerate(request.inputs)]
        if self._prompt is not None:
            return [
                self._prompt.tokens(request.query, document, request.max_document_tokens)
                for document in request.documents
            ]
        query, documents = self._query_and_documents(request)
        front, between, back = self._frame
        if self._ranks:
            return [[*front, *query, *between, *document, *back] for document in documents]
        return [
            [*front, *tokens, *back] or self._no_token("query") for tokens in (query, *documents)
        ]

    def _query_and_documents(self, request: RerankRequest) -> tuple[list[int], list[list[int]]]:
        """With the model's prompts for both where it makes vectors of them."""
        prompts = {role: "" if self._ranks else text for role, text in self._fronts.items()}
        before = prompts[TextRole.DOCUMENT]
        most = request.max_document_tokens
        if most is not None and before:
            most += len(self._tokens(before))
        documents = [self._tokens(before + document)[:most] for document in request.documents]
        return self._tokens(prompts[TextRole.QUERY] + request.query), documents

    def _input(self, index: int, prompt: TextPrompt | TokenPrompt, front: str) -> list[int]:
        if isinstance(prompt, TextPrompt):
            text = self._tokens(front + prompt.text)
            tokens = [*self._frame.front, *text, *self._frame.back]
            return tokens or self._no_token(f"input[{index}]")
        unknown = next(
            (token for token in prompt.tokens if not 0 <= token < self._vocabulary.num_vocab), None
        )
        if unknown is not None:
            most = self._vocabulary.num_vocab - 1
            raise BadRequest(
                f"Token ids must be between 0 and {most} (got {unknown}).",
                param=f"input[{index}]",
            )
        return list(prompt.tokens)

    def _tokens(self, text: str) -> list[int]:
        return self._vocabulary.tokenize(text, parse_special=False)

    @staticmethod
    def _no_token(param: str) -> list[int]:
        raise BadRequest("This text is empty: it contains no tokens.", param=param)
