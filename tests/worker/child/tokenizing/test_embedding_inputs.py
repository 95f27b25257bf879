"""The model's own prompts go in front of queries and documents, and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.engine.embedding import InputFrame
from appliance.protocol.requests import (
    EmbedRequest,
    RerankRequest,
    TextPrompt,
    TextRole,
    TokenPrompt,
)
from appliance.worker.child.tokenizing.embedding_inputs import EmbeddingInputs
from appliance.worker.frames import Embed

FRAME = InputFrame((1,), (2,), (2,))
PROMPTS = {
    "sentence_transformers.prompt.query": "q: ",
    "sentence_transformers.prompt.document": "d: ",
}


class Letters:
    """A token for each character."""

    num_vocab = 0x110000

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        assert not parse_special
        return [ord(letter) for letter in text]

    def metadata(self, key: str) -> str | None:
        return self._fields.get(key)

    def special_pieces(self, text: str) -> list[int | str] | None:
        raise NotImplementedError

    def read_piece(self, token: int) -> bytes:
        raise NotImplementedError


def read(
    request: EmbedRequest | RerankRequest,
    fields: Mapping[str, str] = PROMPTS,
    *,
    ranks: bool = False,
) -> list[str]:
    """What the model is given of each input, without the tokens around it."""
    inputs = EmbeddingInputs(Letters(fields), FRAME, ranks=ranks)
    prepared = inputs.prepare(Embed(1, request), template_cpu_s=0.0)
    return ["".join(map(chr, tokens)).strip("\1\2") for tokens in prepared.inputs]


def test_a_prompt_goes_in_front_of_texts_whose_role_is_told() -> None:
    texts = [TextPrompt("one"), TextPrompt("two"), TokenPrompt([120])]
    assert read(EmbedRequest([*texts])) == ["one", "two", "x"]
    assert read(EmbedRequest([*texts], role=TextRole.QUERY)) == ["q: one", "q: two", "x"]
    assert read(EmbedRequest([*texts], role=TextRole.DOCUMENT)) == ["d: one", "d: two", "x"]
    assert read(EmbedRequest([*texts], role=TextRole.QUERY), {}) == ["one", "two", "x"]


def test_vectors_that_are_compared_have_the_prompts_of_both() -> None:
    request = RerankRequest("one", ["two", "three"], max_document_tokens=4)
    assert read(request) == ["q: one", "d: two", "d: thre"]
    assert read(request, ranks=True) == ["one\2two", "one\2thre"]
