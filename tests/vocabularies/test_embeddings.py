"""Vectors of texts, in the vocabularies that embedding models have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from tests.vocabularies.kinds import byte_level, sentencepiece, unigram, wordpiece
from tests.vocabularies.made_model import Vocabulary, write_made_model
from tests.vocabularies.served import serving, worker_config

# With how many tokens around a text.
KINDS: dict[str, tuple[Callable[[], Vocabulary], int]] = {
    "wordpiece": (wordpiece, 2),
    "bpe": (byte_level, 0),
    "spm": (lambda: sentencepiece(add_eos_token=True), 2),
    "unigram": (unigram, 0),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_text_has_the_vector_of_its_tokens(kind: str, tmp_path: Path) -> None:
    make, num_around = KINDS[kind]
    vocabulary = make()
    path = write_made_model(tmp_path / "made.gguf", vocabulary, pooling=gguf.PoolingType.MEAN)
    async with serving(kind, vocabulary, worker_config(path, embeds=True)) as served:
        text = "the answer is yes"
        tokens = await served.tokenize(text)
        assert await served.detokenize(tokens) == text
        whole = await served.post("/v1/embeddings", input=text)
        assert whole["usage"]["prompt_tokens"] == len(tokens) + num_around
        several = await served.post("/v1/embeddings", input=[text, text + " no", "日本 the"])
        vectors = [item["embedding"] for item in several["data"]]
        assert vectors[0] == pytest.approx(whole["data"][0]["embedding"], abs=1e-4)
        assert vectors[0] != pytest.approx(vectors[1], abs=1e-3)
        if num_around == 0:
            same = await served.post("/v1/embeddings", input=[tokens])
            assert same["data"][0]["embedding"] == pytest.approx(vectors[0], abs=1e-4)


def _unigram_as_converted() -> Vocabulary:
    vocabulary = unigram()
    vocabulary.types[vocabulary.id_of("<unk>")] = gguf.TokenType.CONTROL
    return vocabulary


@pytest.mark.parametrize(
    ("kind", "make", "name"),
    [("wordpiece", wordpiece, "[UNK]"), ("unigram", _unigram_as_converted, "<unk>")],
)
async def test_what_has_no_token_is_the_unknown_one(
    kind: str, make: Callable[[], Vocabulary], name: str, tmp_path: Path
) -> None:
    vocabulary = make()
    path = write_made_model(tmp_path / "made.gguf", vocabulary, pooling=gguf.PoolingType.MEAN)
    async with serving(kind, vocabulary, worker_config(path, embeds=True)) as served:
        for parse_special in (False, True):
            tokens = await served.tokenize("the 😀", parse_special=parse_special)
            assert tokens[-1] == vocabulary.id_of(name)
        vector = await served.post("/v1/embeddings", input="the 😀")
        assert len(vector["data"]) == 1
