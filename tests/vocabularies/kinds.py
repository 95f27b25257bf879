"""One small vocabulary of every kind, all with much the same words.

Knows how each kind writes its tokens, and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import gguf

from appliance.store.synthetic import _byte_alphabet  # GPT-2's name of each byte
from tests.vocabularies.made_model import Key, Vocabulary

NORMAL, CONTROL, BYTE = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE
UNKNOWN, UNUSED = gguf.TokenType.UNKNOWN, gguf.TokenType.UNUSED
USER_DEFINED = gguf.TokenType.USER_DEFINED
BLANK = "▁"
ASCII = "".join(map(chr, range(0x21, 0x7F)))
WORDS = (
    " the",
    " answer",
    " is",
    " yes",
    " no",
    " two",
    "the",
    "answer",
    "yes",
    "name",
    "  ",
    "    ",
    "\n\n",
    "é",
    "日本",
    "Zürich",
    " Zürich",
    "12",
    '{"',
    '":',
)
SPELLED = "éü日本語ЖΩ"  # characters of which SentencePiece vocabularies have a token
MARKS = ("<user>", "<bot>")  # of the chat template, control tokens
FIM = ("<PRE>", "<SUF>", "<MID>")  # llama.cpp knows them by name
TEMPLATE = (
    "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}<bot>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "{% else %}<user>{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)


def _byte_names() -> list[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)]


def _beginnings(words: Iterable[str]) -> list[str]:
    """Whatever merging from the left needs: each word's beginnings of two letters and
    more, the shorter ones first.
    """
    found = {word[:size] for word in words for size in range(2, len(word) + 1)}
    return sorted(found, key=lambda text: (len(text), text))


# --- SentencePiece --------------------------------------------------------------------


def sentencepiece(*, prefix: bool = True, has_bytes: bool = True, **keys: Key) -> Vocabulary:
    """As llama.cpp calls `llama`: merged by scores."""
    special = ["<unk>", "<s>", "</s>", *MARKS, *FIM]
    types = [UNKNOWN, *[CONTROL] * (len(special) - 1)]
    byte_names = _byte_names() if has_bytes else []
    spelled = [BLANK, *ASCII, *SPELLED] + ([] if has_bytes else ["\n"])
    words = _beginnings(word.replace(" ", BLANK) for word in WORDS)
    tokens = [*special, *byte_names, *spelled, *words]
    return Vocabulary(
        model="llama",
        tokens=tokens,
        types=[*types, *[BYTE] * len(byte_names), *[NORMAL] * (len(spelled) + len(words))],
        scores=[-float(token) for token in range(len(tokens))],
        keys={
            "bos_token_id": 1,
            "eos_token_id": 2,
            "unknown_token_id": 0,
            "add_bos_token": True,
            "add_space_prefix": prefix,
            **keys,
        },
        chat_template=TEMPLATE,
    )


def unigram() -> Vocabulary:
    """As llama.cpp calls `t5`: the likeliest split."""
    special = ["<pad>", "</s>", "<unk>", *MARKS, *FIM]
    types = [CONTROL, CONTROL, UNKNOWN, *[CONTROL] * (len(special) - 3)]
    spelled = [BLANK, *ASCII, *SPELLED, "\n"]
    words = _beginnings(word.replace(" ", BLANK) for word in WORDS)
    tokens = [*special, *spelled, *words]
    return Vocabulary(
        model="t5",
        tokens=tokens,
        types=[*types, *[NORMAL] * (len(spelled) + len(words))],
        scores=[0.0] * len(special) + [-10.0] * len(spelled) + [-12.0 - len(w) for w in words],
        keys={
            "eos_token_id": 1,
            "unknown_token_id": 2,
            "padding_token_id": 0,
            "add_eos_token": False,
            "add_space_prefix": True,
            "remove_extra_whitespaces": False,
        },
        chat_template=TEMPLATE,
    )


# --- byte-level BPE -------------------------------------------------------------------


def byte_level(
    special: Iterable[str] = ("<|endoftext|>",),
    added: Iterable[str] = (),
    num_padding: int = 0,
    **keys: Key,
) -> Vocabulary:
    """As llama.cpp calls `gpt2`; the last of `special` ends an answer, if any does."""
    alphabet = _byte_alphabet()
    words = []
    for word in _beginnings_of_bytes(WORDS):
        words.append("".join(alphabet[byte] for byte in word))
    control = [*MARKS, *FIM, *special]
    padding = [f"[PAD{at}]" for at in range(num_padding)]
    tokens = [*alphabet, *words, *control, *added, *padding]
    types = [NORMAL] * (256 + len(words)) + [CONTROL] * len(control)
    types += [USER_DEFINED] * len(list(added)) + [UNUSED] * num_padding
    ends = {"eos_token_id": tokens.index(list(special)[-1])} if special else {}
    return Vocabulary(
        model="gpt2",
        tokens=tokens,
        types=types,
        merges=[f"{word[:-1]} {word[-1]}" for word in words],
        keys={"pre": "gpt-2", "add_bos_token": False, **ends, **keys},
        chat_template=TEMPLATE,
    )


def _beginnings_of_bytes(words: Iterable[str]) -> list[bytes]:
    encoded = [word.encode() for word in words]
    found = {word[:size] for word in encoded for size in range(2, len(word) + 1)}
    return sorted(found, key=lambda text: (len(text), text))


# --- others ---------------------------------------------------------------------------


def rwkv() -> Vocabulary:
    """The longest match; tokens are written as Python would escape them."""
    words = _beginnings_of_bytes(WORDS)
    tokens = ["<s>", *map(_escaped, (bytes([byte]) for byte in range(256))), *map(_escaped, words)]
    special = [*MARKS, *FIM, "</s>"]
    return Vocabulary(
        model="rwkv",
        tokens=[*tokens, *special],
        types=[CONTROL, *[NORMAL] * (len(tokens) - 1), *[CONTROL] * len(special)],
        keys={"eos_token_id": len(tokens) + len(special) - 1},
        chat_template=TEMPLATE,
    )


def _escaped(text: bytes) -> str:
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in text
    )


def gemma4() -> Vocabulary:
    """BPE on characters, with blanks as SentencePiece writes them."""
    words = _beginnings(word.replace(" ", BLANK) for word in WORDS)
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *MARKS, *FIM]
    types = [CONTROL, CONTROL, CONTROL, UNKNOWN, *[CONTROL] * (len(MARKS) + len(FIM))]
    spelled = [BLANK, *ASCII, *SPELLED, "\n"]
    tokens = [*special, *_byte_names(), *spelled, *words]
    return Vocabulary(
        model="gemma4",
        tokens=tokens,
        types=[*types, *[BYTE] * 256, *[NORMAL] * (len(spelled) + len(words))],
        merges=[f"{word[:-1]} {word[-1]}" for word in words],
        keys={"eos_token_id": 1, "bos_token_id": 2, "unknown_token_id": 3, "add_bos_token": True},
        chat_template=TEMPLATE,
    )


def wordpiece() -> Vocabulary:
    """For embeddings: what a word begins with has a blank in front."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [character for character in ASCII if not character.isupper()]
    words = ["the", "answer", "is", "yes", "no"]
    tokens = [*special, *(BLANK + one for one in (*letters, *words)), *letters, "er", "日"]
    return Vocabulary(
        model="bert",
        tokens=tokens,
        # [UNK] too, as converters have it
        types=[*[CONTROL] * 5, *[NORMAL] * (len(tokens) - len(special))],
        keys={
            "padding_token_id": 0,
            "unknown_token_id": 1,
            "bos_token_id": 2,
            "cls_token_id": 2,
            "seperator_token_id": 3,
            "mask_token_id": 4,
            "token_type_count": 2,
        },
    )


KINDS: dict[str, Callable[[], Vocabulary]] = {
    "bpe": byte_level,
    "spm": sentencepiece,
    "spm-without-prefix": lambda: sentencepiece(prefix=False),
    "spm-without-bytes": lambda: sentencepiece(has_bytes=False),
    "unigram": unigram,
    "rwkv": rwkv,
    "gemma4": gemma4,
    "no-end": lambda: byte_level(special=()),
    "several-ends": lambda: byte_level(special=("<|im_end|>", "<|eot_id|>", "<|endoftext|>")),
    "padded": lambda: byte_level(num_padding=40),
    "added": lambda: byte_level(added=("<tool>", "   \n", "日本語", "x<|")),
}


def without(vocabulary: Vocabulary, *keys: str) -> Vocabulary:
    """The same with some keys left out."""
    return replace(
        vocabulary, keys={key: value for key, value in vocabulary.keys.items() if key not in keys}
    )
