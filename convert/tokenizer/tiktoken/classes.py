"""What the classes that read tiktoken files add to them: the expression that splits text into
words, and the special tokens.

Knows no files.

These classes are programs in the checkpoints' repositories, which are never run here; what
they say was read in the source that each entry names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convert.tokenizer.pretokenizer import KIMI, LLAMA3, QWEN2

_END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class RanksClass:
    """One class of tokenizers that reads ranks."""

    expression: str  # by which text is split into words
    special: Callable[[int], dict[int, str]]  # by id; takes the number of ranks
    composes: bool = False  # NFC before anything else
    # what tokenizer_config.json would say if it said everything
    defaults: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _numbered(start: int, *names: str) -> dict[int, str]:
    return dict(enumerate(names, start=start))


def _extras(count: int) -> tuple[str, ...]:
    return tuple(f"<|extra_{number}|>" for number in range(count))


_ARCADE = (
    _END_OF_TEXT, "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<gh_stars>", "<filename>", "<issue_start>", "<issue_comment>", "<issue_closed>",
    "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<empty_output>",
    "<commit_before>", "<commit_msg>", "<commit_after>", "<reponame>", "<|endofprompt|>",
    "<|im_start|>", "<|im_end|>", "<|pause|>", *(f"<|reg{number}|>" for number in range(8)),
    "<|extra0|>",
)  # fmt: skip
_GLM4 = (
    _END_OF_TEXT, "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
    "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>",
    "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip
_NUM_RESERVED = 256  # behind the ranks of Moonshot's; its class has two more, without rows

# by the name of the class in the repository's own Python file
CLASSES: Mapping[str, RanksClass] = {
    # tokenization_qwen.py of Qwen/Qwen-7B
    "QWenTokenizer": RanksClass(
        expression=QWEN2,
        composes=True,
        special=lambda _: _numbered(
            151643, _END_OF_TEXT, "<|im_start|>", "<|im_end|>", *_extras(205)
        ),
        defaults={"eos_token": _END_OF_TEXT, "pad_token": _END_OF_TEXT},
    ),
    # tokenization_hy.py of tencent/Hunyuan-A13B-Instruct
    "HYTokenizer": RanksClass(
        expression=QWEN2,
        composes=True,
        special=lambda _: _numbered(
            127957, _END_OF_TEXT, "<|startoftext|>", "<|bos|>", "<|eos|>", "<|pad|>", *_extras(204)
        ),
        defaults={
            "bos_token": "<|startoftext|>",
            "eos_token": _END_OF_TEXT,
            "pad_token": "<|pad|>",
            "add_bos_token": True,
            "add_eos_token": False,
        },
    ),
    # tokenization_moonshot.py of moonshotai/Moonlight-16B-A3B, tokenization_kimi.py of Kimi
    "TikTokenTokenizer": RanksClass(
        expression=KIMI,
        special=lambda count: {
            token_id: f"<|reserved_token_{token_id}|>"
            for token_id in range(count, count + _NUM_RESERVED)
        },
        defaults={"bos_token": "[BOS]", "eos_token": "[EOS]"},
    ),
    # tokenization_chatglm.py of THUDM/glm-4-9b-chat
    "ChatGLM4Tokenizer": RanksClass(
        expression=LLAMA3,
        special=lambda count: _numbered(count, *_GLM4),
        defaults={"eos_token": _END_OF_TEXT, "pad_token": _END_OF_TEXT},
        notes=(
            "This tokenizer puts two tokens, [gMASK] and <sop>, before every text, and llama.cpp "
            "can put only one there: none is added. The chat template writes both; before other "
            "texts, write them yourself.",
        ),
    ),
    # tokenization_arcade100k.py of stabilityai/stablelm-2-1_6b
    "Arcade100kTokenizer": RanksClass(
        expression=QWEN2,
        composes=True,
        special=lambda _: _numbered(100257, *_ARCADE),
        defaults={"eos_token": _END_OF_TEXT, "pad_token": _END_OF_TEXT},
    ),
}
CLASS_OF_MODEL = {
    "qwen": "QWenTokenizer",
    "hunyuan": "HYTokenizer",
    "hunyuan_v1_moe": "HYTokenizer",
    "chatglm": "ChatGLM4Tokenizer",
}
