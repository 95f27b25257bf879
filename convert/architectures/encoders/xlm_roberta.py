"""XLM-RoBERTa: BERT whose positions are counted from behind the padding token's id. Makes
embeddings (BGE-M3, multilingual E5), or ranks documents by a head with one label.

Knows no tokenizers.

llama.cpp gives a text's first token position 0, transformers `pad_token_id` + 1: the rows
in front of that one are left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gguf import PoolingType

from convert.architectures.encoders import bert
from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import u32

_POSITIONS, _USED = "position_embd.weight", "used positions"
# Transformers' values where a config leaves them out.
_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 1,
}
RULES = tuple(
    replace(rule, order=_USED) if rule.target == _POSITIONS else rule for rule in bert.RULES
)
# dense layer, tanh, projection: as llama.cpp's `build_pooling` has it
HEAD_RULES = tuple(
    TensorRule(
        target=f"{target}.{part}",
        source=f"classifier.{source}.{part}",
        shape=shape,
        rows=Rows.VECTOR if shape == ("one", "hidden") else Rows.KEEP,
    )
    for target, source, rows in (("cls", "dense", "hidden"), ("cls.output", "out_proj", "one"))
    for part, shape in (("weight", (rows, "hidden")), ("bias", (rows,)))
)
SPELLINGS = ((r"^roberta\.", ""), *bert.SPELLINGS)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.with_defaults(_DEFAULTS)
    positions = config.integer("max_position_embeddings")
    first = config.integer("pad_token_id", 1) + 1
    if first >= positions:
        raise DamagedCheckpoint(
            f"{config.path}: with pad_token_id = {first - 1}, none of the {positions} positions is "
            "left for text."
        )
    if config.values.get("lora_adaptations"):
        raise UnsupportedModel(
            f"{config.path} has lora_adaptations (jina-embeddings-v3): adapters by task cannot be "
            "converted."
        )
    hyper = bert.read_config(config, tensor_names)
    fields = [field for field in hyper.fields if field.key != "bert.context_length"]
    return replace(
        hyper,
        orders={_USED: np.arange(first, positions)},
        sizes={**hyper.sizes, "one": 1},
        fields=(*fields, u32("bert.context_length", positions - first)),
        unused=("embeddings.position_ids", "pooler.*", "lm_head.*"),
    )


def read_ranker(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    """Raises `UnsupportedModel` for more labels than the one that is a score."""
    labels = config.values.get("id2label")
    count = len(labels) if isinstance(labels, dict) else config.integer("num_labels", 2)
    if count != 1:
        raise UnsupportedModel(
            f"{config.path} has {count} labels: the model sorts texts into classes. Only a head "
            "with one label, which ranks documents, can be converted."
        )
    hyper = read_config(config, tensor_names)
    return replace(hyper, fields=(*hyper.fields, u32("bert.pooling_type", PoolingType.RANK.value)))


XLM_ROBERTA = Family(
    name="bert",
    models="XLM-RoBERTa (BGE-M3, multilingual E5): embeddings",
    architectures=("XLMRobertaModel", "XLMRobertaForMaskedLM"),
    model_types=("xlm-roberta",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
XLM_ROBERTA_RANKER = Family(
    name="bert",
    models="XLM-RoBERTa with one label (BGE reranker v2 M3): ranking",
    architectures=("XLMRobertaForSequenceClassification",),
    model_types=(),
    rules=(*RULES, *HEAD_RULES),
    read_config=read_ranker,
    spellings=SPELLINGS,
)
