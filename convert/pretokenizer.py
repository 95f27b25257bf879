"""Which of llama.cpp's pre-tokenizers splits text as a tokenizer.json does. Knows no vocabularies and no merges.

Decided by definition: the `pre_tokenizer` section is reduced to the list of expressions it splits by, and that list is
looked up. The names and their expressions are those of llama.cpp's src/llama-vocab.cpp (`llm_tokenizer_bpe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convert.errors import UnsupportedModel

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT = r"\p{N}"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# (expressions, whether whole words skip the merges) -> llama.cpp's name
_NAMES: Mapping[tuple[tuple[str, ...], bool], str] = {
    ((GPT2,), False): "gpt-2",
    ((DIGIT, GPT2), False): "smollm",
    ((LLAMA3,), True): "llama-bpe",
    ((LLAMA3,), False): "dbrx",
    ((QWEN2,), False): "qwen2",
}


def find_pretokenizer(section: Any, ignore_merges: bool) -> str:
    """llama.cpp's name for a `pre_tokenizer` section of a byte-level BPE.

    Raises `UnsupportedModel` with what it found where llama.cpp has nothing that splits the same way.
    """
    expressions: list[str] = []
    has_byte_level = False
    for stage in _stages(section):
        if has_byte_level:
            raise UnsupportedModel(f"The tokenizer splits by {stage.get('type')} after ByteLevel; llama.cpp cannot.")
        expressions += _expressions(stage)
        has_byte_level = stage.get("type") == "ByteLevel"
    if not has_byte_level:
        raise UnsupportedModel("The tokenizer's pre_tokenizer does not end in ByteLevel.")
    name = _NAMES.get((tuple(expressions), ignore_merges))
    if name is None:
        raise UnsupportedModel(
            f"llama.cpp has no pre-tokenizer known here that splits by {expressions} with "
            f"ignore_merges={str(ignore_merges).lower()}; with a wrong one the model would read other tokens than it "
            "was trained on."
        )
    return name


def _stages(section: Any) -> list[dict[str, Any]]:
    if not isinstance(section, dict):
        return []
    if section.get("type") == "Sequence":
        return [stage for inner in section.get("pretokenizers", []) for stage in _stages(inner)]
    return [section]


def _expressions(stage: dict[str, Any]) -> list[str]:
    match stage:
        case {"type": "ByteLevel"}:
            if stage.get("add_prefix_space"):
                raise UnsupportedModel("The tokenizer puts a space before every text (ByteLevel add_prefix_space).")
            return [GPT2] if stage.get("use_regex", True) else []
        case {"type": "Digits", "individual_digits": True}:
            return [DIGIT]
        case {"type": "Digits"}:
            return [DIGIT + "+"]
        case {"type": "Split", "pattern": {"Regex": str(expression)}}:
            behaviour = (stage.get("behavior"), stage.get("invert", False))
            # Removing what does not match an expression that matches everything is the same as isolating matches.
            if behaviour not in (("Isolated", False), ("Removed", True)):
                raise UnsupportedModel(f"The tokenizer splits with behavior={behaviour[0]}, invert={behaviour[1]}.")
            return [expression]
        case _:
            raise UnsupportedModel(f"The tokenizer's pre-tokenizer {stage.get('type')!r} is not known to llama.cpp.")
