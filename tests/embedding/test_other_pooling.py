"""A reranker with a classifier, and a decoder that pools: made of files that we have,
by adding what makes them so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter, PoolingType
from numpy.typing import NDArray

from appliance.errors import BadRequest
from appliance.protocol.requests import RerankRequest
from tests.conftest import Embedded as EmbeddedModel
from tests.conftest import MiniLm
from tests.embedding.bert_reference import BertReference
from tests.embedding.running import running, texts, vectors, worker_config

QUERY = "Where is the cat?"
DOCUMENTS = ["Stocks fell on Monday.", "A kitten sleeps in the garden."]


def copy_with(
    source: Path, target: Path, pooling: PoolingType, tensors: Mapping[str, NDArray[np.float32]]
) -> Path:
    """The same GGUF with another pooling and further tensors."""
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in (
            "general.architecture",
            f"{architecture}.pooling_type",
        ):
            continue
        sub_type = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub_type)
    writer.add_uint32(f"{architecture}.pooling_type", pooling.value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


async def test_a_reranker_scores_pairs_by_its_classifier(minilm: MiniLm, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    dense, last = (
        rng.normal(0, 0.05, shape).astype(np.float32) for shape in ((384, 384), (1, 384))
    )
    bias, last_bias = rng.normal(0, 0.1, 384).astype(np.float32), np.array([0.25], np.float32)
    head = {
        "cls.weight": dense,
        "cls.bias": bias,
        "cls.output.weight": last,
        "cls.output.bias": last_bias,
    }
    model = copy_with(minilm.files["F32"], tmp_path / "reranker.gguf", PoolingType.RANK, head)
    async with running(worker_config(model)) as supervisor:
        assert supervisor.info is not None
        assert supervisor.info.pooling == "rank"
        ranked = await supervisor.embed(RerankRequest(QUERY, DOCUMENTS))
        cut = await supervisor.embed(RerankRequest(QUERY, DOCUMENTS, max_document_tokens=2))
        with pytest.raises(BadRequest, match="makes no embeddings"):
            await supervisor.embed(texts(["x"]))
    reference = BertReference.read(minilm.checkpoint)
    pairs = [[*reference.tokens(QUERY), *reference.tokens(document)[1:]] for document in DOCUMENTS]
    firsts = [reference.hidden(pair)[0] for pair in pairs]
    logits = [float((last @ np.tanh(dense @ first + bias) + last_bias)[0]) for first in firsts]
    expected = [1 / (1 + np.exp(-logit)) for logit in logits]
    assert ranked.num_tokens == sum(map(len, pairs))
    np.testing.assert_allclose(vectors(ranked)[:, 0], expected, atol=1e-3)
    assert abs(expected[0] - expected[1]) > 5e-3, "or the test would show nothing"
    assert cut.num_tokens == 2 * (len(reference.tokens(QUERY)) + 2 + 1)


async def test_a_decoder_that_pools_is_an_embedding_model(
    embedded: EmbeddedModel, tmp_path: Path
) -> None:
    """Its cache is empty after each step: the same text gives the same vector, whatever
    came before.
    """
    model = copy_with(embedded.files["F32"], tmp_path / "decoder.gguf", PoolingType.LAST, {})
    sentences = ["The old house by the sea.", "Once", "Nobody had lived in it for years."]
    async with running(worker_config(model)) as supervisor:
        assert supervisor.info is not None
        assert supervisor.info.pooling == "last"
        together = vectors(await supervisor.embed(texts(sentences)))
        alone = np.stack([vectors(await supervisor.embed(texts([each])))[0] for each in sentences])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=2e-3)
    assert together[0] @ together[2] < 0.999
