"""Which files of a checkpoint describe it: what is read of one beside its weights.

Knows no folder and no hub. Whoever fetches a checkpoint asks here too (`appliance.store`,
which imports nothing else of `convert`), so that what is fetched is what is read.
"""

from __future__ import annotations

import re

CARD = "README.md"
QUANTIZATION_FILE = "hf_quant_config.json"  # of NVIDIA's Model Optimizer
ADAPTER_FILE = "adapter_config.json"  # only to say that it was left aside
INDEX_FILE = "model.safetensors.index.json"

_DESCRIPTIONS = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens"
    r"|chat_template|modules|sentence_bert_config|config_sentence_transformers|vocab"
    r"|hf_quant_config|adapter_config|[^/]*\.safetensors\.index)\.json"
    r"|[^/]*\.tiktoken|tiktoken\.model|tekken\.json|sentencepiece\.bpe\.model|spiece\.model"
    r"|rwkv_vocab_[^/]*\.txt|tokenizer\.jsonl"
    r"|chat_template\.jinja|tokenizer\.model|vocab\.txt|merges\.txt|README\.md"
    r"|additional_chat_templates/[^/]+\.jinja|[0-9][^/]*_[^/]*/config\.json"
    r"|[0-9][^/]*_Dense/model\.safetensors"  # small: what is after pooling
)


def describes(name: str) -> bool:
    """Whether a file is such a one, by its path in the checkpoint."""
    return _DESCRIPTIONS.fullmatch(name) is not None
