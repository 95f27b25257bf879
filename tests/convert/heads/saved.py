"""Decoders as sentence-transformers saves them, and as rerankers are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.convert.checkpoints import (
    byte_tokenizer,
    change_config,
    golden_checkpoint,
    read_safetensors,
    write_safetensors,
)

APPENDED, OLD_END = 258, 257
CARD = """\
---
pipeline_tag: text-ranking
---
# Tiny
```python
prefix = "<|im_start|>system\\nJudge whether the Document meets the requirements based on the \
Query and the Instruct provided. Note that the answer can only be \\"yes\\" or \\"no\\"."
```
"""


def save_modules(source: Path, pooling: str, *kinds: str) -> None:
    """modules.json, and 1_Pooling where `kinds` have one."""
    entries = []
    for index, kind in enumerate(kinds):
        path = "" if kind == "Transformer" else f"{index}_{kind}"
        entries.append({"idx": index, "name": str(index), "path": path, "type": f"st.{kind}"})
        if path:
            (source / path).mkdir()
    (source / "modules.json").write_text(json.dumps(entries))
    if "Pooling" in kinds:
        config = {"embedding_dimension": 64, "pooling_mode": pooling}
        (source / "1_Pooling" / "config.json").write_text(json.dumps(config))


def change_tokenizer(source: Path, **changes: Any) -> None:
    path = source / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def append_token(source: Path) -> None:
    """A post-processor that appends `<|endoftext|>`, as Qwen3-Embedding's does; the end of
    an answer is another token.
    """
    tokenizer = byte_tokenizer()
    end = tokenizer["added_tokens"][0]
    special = {"id": "<|endoftext|>", "ids": [APPENDED], "tokens": ["<|endoftext|>"]}
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": special},
    }
    change_tokenizer(
        source,
        added_tokens=[end, {**end, "id": APPENDED, "content": "<|endoftext|>"}],
        post_processor={
            "type": "Sequence",
            "processors": [
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False},
                template,
            ],
        },
    )


def embedding_model(directory: Path, pooling: str = "lasttoken", family: str = "qwen3") -> Path:
    source = golden_checkpoint(family, directory)
    append_token(source)
    save_modules(source, pooling, "Transformer", "Pooling", "Normalize")
    return source


def lose_head(source: Path) -> None:
    path = source / "model.safetensors"
    tensors = read_safetensors(path)
    tensors.pop("lm_head.weight")
    write_safetensors(path, tensors, "BF16")
    change_config(source, lambda config: config.update(tie_word_embeddings=False))


def reranker(directory: Path, card: str = CARD) -> Path:
    """The golden Qwen 3 with the tokens `yes` and `no`, and those of the prompt."""
    source = golden_checkpoint("qwen3", directory)
    model = byte_tokenizer()["model"]
    words = {"ye": 258, "yes": 259, "no": 260}
    merges = [["y", "e"], ["ye", "s"], ["n", "o"]]
    end = byte_tokenizer()["added_tokens"][0]
    added = [
        {**end, "id": 261 + index, "content": text}
        for index, text in enumerate(("<|im_start|>", "<|im_end|>"))
    ]
    thinking = [
        {**end, "id": 263 + index, "content": text, "special": False}
        for index, text in enumerate(("<think>", "</think>"))
    ]
    change_tokenizer(
        source,
        model={
            **model,
            "vocab": {**model["vocab"], **words},
            "merges": [*model["merges"], *merges],
        },
        added_tokens=[end, *added, *thinking],
    )
    (source / "README.md").write_text(card)
    return source
