"""Refuses vocabularies that would end llama.cpp, or be read by it as something else than
the file says.

Knows the keys `tokenizer.ggml.*` and what llama.cpp's loader makes of them, and no text.

Source: `llama_vocab::impl::load` and the tokenizers in llama.cpp's src/llama-vocab.cpp.
What these refuse themselves, with a reason and without dying (unknown pre-tokenizers,
keys of a wrong type, more rows than tokens), is left to them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from appliance.errors import BadModelFile
from appliance.store.gguf_header import GgufHeader
from appliance.store.gguf_values import U64, MetadataArray, bad_file
from appliance.store.vocabulary.charsmap import charsmap_fault

_KEY = "tokenizer.ggml."
_NO_VOCABULARY = ("none", "no_vocab")
_SPM, _BPE, _UNIGRAM, _WORDPIECE, _RWKV = "llama", "gpt2", "t5", "bert", "rwkv"
_KNOWN = (_SPM, _BPE, _UNIGRAM, _WORDPIECE, _RWKV, "gemma4", "plamo2", "hybriddna", "whitespace")
_WITH_MERGES = (_BPE, "gemma4", "hybriddna", "whitespace")
_WITHOUT_MERGES = "kimi-k2"  # a pre-tokenizer: its vocabulary is of ranks
_SCORED = (_SPM, _UNIGRAM)
_NO_TOKEN = ((1 << 32) - 1, -1)  # written where there is none
_DEFAULT_WORDPIECE_IDS = {"bos_token_id": 101, "seperator_token_id": 102, "unknown_token_id": 100}

_INT32, _UINT32, _FLOAT32, _STRING = 5, 4, 6, 8  # as GGUF numbers its types
_BYTE = 6  # llama.cpp's LLAMA_TOKEN_TYPE_BYTE
_BYTE_NAME = re.compile(rb"<0x[0-9A-F]{2}>")
# Some tokenizers put tokens into a tree, recursively: a byte is a call.
MAX_TOKEN_BYTES = 8192

# By what was checked: of many files of one model, the vocabulary is the same.
_known_faults: dict[bytes, str | None] = {}


def check_vocabulary_keys(header: GgufHeader) -> None:
    """What can be told without the tokens themselves.

    Raises `BadModelFile`, which says what is wrong with which key.
    """
    model = header.metadata.get(f"{_KEY}model")
    if model is None:
        return  # refused by llama.cpp, by name
    if model in _NO_VOCABULARY:
        raise BadModelFile(
            f"{header.path} has no vocabulary (its {_KEY}model is {model!r}), so no text can be "
            "read or written with it. Use a file that was converted with its tokenizer."
        )
    if model not in _KNOWN:
        raise bad_file(
            header.path,
            f"its {_KEY}model is {model!r}, which is no tokenizer that can be served (these can: "
            f"{', '.join(_KNOWN)})",
        )
    tokens = _array(header, "tokens", (_STRING,))
    if tokens is None or not tokens.num_values:
        raise bad_file(header.path, f"its {_KEY}tokens is empty or absent")
    _check_companions(header, str(model), tokens.num_values)
    _check_ids(header, str(model), tokens.num_values)


def check_vocabulary_tokens(header: GgufHeader) -> None:
    """What the tokens say; the file is there, and `check_vocabulary_keys` took it.

    Raises `BadModelFile`.
    """
    model = header.metadata.get(f"{_KEY}model")
    if model is None:
        return
    tokens = header.array_bytes(f"{_KEY}tokens")
    count = header.array_length(f"{_KEY}tokens")
    types = header.array_bytes(f"{_KEY}token_type") if _has(header, "token_type") else b""
    digest = str(model).encode() + hashlib.sha256(types).digest() + hashlib.sha256(tokens).digest()
    if digest not in _known_faults:
        _known_faults[digest] = _tokens_fault(_texts(tokens, count), types, str(model))
    fault = _known_faults[digest]
    if fault:
        raise bad_file(header.path, fault)
    if model in _SCORED and _has(header, "scores"):
        _check_scores(header)
    if model == _UNIGRAM and _has(header, "precompiled_charsmap"):
        fault = charsmap_fault(header.array_bytes(f"{_KEY}precompiled_charsmap"))
        if fault:
            raise bad_file(header.path, f"its {_KEY}precompiled_charsmap {fault}")


# --- keys -----------------------------------------------------------------------------


def _check_companions(header: GgufHeader, model: str, num_tokens: int) -> None:
    """The arrays that have a value for each token."""
    for name, types in (("scores", (_FLOAT32, _INT32)), ("token_type", (_INT32, _UINT32))):
        array = _array(header, name, types)
        if array is None:
            if model in _SCORED:
                raise bad_file(header.path, f"it has no {_KEY}{name}, which {model!r} needs")
        elif array.num_values < num_tokens:
            raise bad_file(
                header.path,
                f"its {_KEY}{name} has {array.num_values} values for {num_tokens} tokens",
            )
    merges = _array(header, "merges", (_STRING,))
    needs_merges = header.metadata.get(f"{_KEY}pre") != _WITHOUT_MERGES
    if model in _WITH_MERGES and needs_merges and merges is None:
        raise bad_file(header.path, f"it has no {_KEY}merges, which {model!r} needs")


def _check_ids(header: GgufHeader, model: str, num_tokens: int) -> None:
    """The ids for which llama.cpp would take another token in silence, or die."""
    for name in ("bos_token_id", "eos_token_id"):
        token = header.metadata.get(f"{_KEY}{name}")
        if isinstance(token, int) and token not in _NO_TOKEN and not 0 <= token < num_tokens:
            raise bad_file(
                header.path, f"its {_KEY}{name} is {token}, but it has {num_tokens} tokens"
            )
    if model != _WORDPIECE:
        return
    for name, default in _DEFAULT_WORDPIECE_IDS.items():
        token = header.metadata.get(f"{_KEY}{name}", default)
        if not isinstance(token, int) or not 0 <= token < num_tokens:
            raise bad_file(
                header.path,
                f"its {_KEY}{name} is {token}, but it has {num_tokens} tokens, and {model!r} "
                "needs one",
            )


def _array(header: GgufHeader, name: str, types: Sequence[int]) -> MetadataArray | None:
    value = header.metadata.get(_KEY + name)
    if value is None:
        return None
    if not isinstance(value, MetadataArray) or value.type_id not in types:
        raise bad_file(header.path, f"its {_KEY}{name} is of a type that it cannot have")
    return value


def _has(header: GgufHeader, name: str) -> bool:
    return header.array_length(_KEY + name) > 0


# --- tokens ---------------------------------------------------------------------------


def _tokens_fault(texts: Sequence[bytes], types: bytes, model: str) -> str | None:
    """What is wrong with them, in words; None if nothing is."""
    return (
        _length_fault(texts)
        or _double(texts)
        or _byte_fault(texts, types, model)
        or (_rwkv_fault(texts) if model == _RWKV else None)
    )


def _texts(data: bytes, count: int) -> list[bytes]:
    """As llama.cpp reads them: as far as their first NUL, and with a name if empty."""
    texts, position, unpack = [], 0, U64.unpack_from
    for index in range(count):
        size = unpack(data, position)[0]
        position += 8
        text = data[position : position + size]
        position += size
        if b"\0" in text:
            text = text[: text.index(b"\0")]
        texts.append(text or b"[EMPTY_%d]" % index)
    return texts


def _length_fault(texts: Sequence[bytes]) -> str | None:
    longest = max(range(len(texts)), key=lambda token: len(texts[token]))
    if len(texts[longest]) <= MAX_TOKEN_BYTES:
        return None
    return (
        f"its token {longest} is {len(texts[longest])} bytes long, but at most {MAX_TOKEN_BYTES} "
        "are possible"
    )


def _double(texts: Sequence[bytes]) -> str | None:
    """llama.cpp asserts that there are none."""
    if len(set(texts)) == len(texts):
        return None
    seen: dict[bytes, int] = {}
    for token, text in enumerate(texts):
        first = seen.setdefault(text, token)
        if first != token:
            name = text.decode("utf-8", errors="backslashreplace")
            return f"its tokens {first} and {token} are the same ({name!r})"
    raise AssertionError("there are fewer texts than tokens")


def _byte_fault(texts: Sequence[bytes], types: bytes, model: str) -> str | None:
    """Tokens that stand for one byte have that as their name; WordPiece has none."""
    if model == _RWKV:
        return None
    kinds = memoryview(types).cast("i") if types else ()
    for token, (text, kind) in enumerate(zip(texts, kinds, strict=False)):
        if kind == _BYTE and (model == _WORDPIECE or not _BYTE_NAME.fullmatch(text)):
            name = text.decode("utf-8", errors="backslashreplace")
            return f"its token {token} ({name!r}) is said to be a byte, and is none"
    return None


def _rwkv_fault(texts: Sequence[bytes]) -> str | None:
    """llama.cpp goes on for ever where a token begins a text, and none is read of it."""
    read = {_first_byte(text) for text in texts}
    single = {byte for text in texts if (byte := _single_byte(text)) is not None}
    missing = sorted(read - single)
    if not missing:
        return None
    return f"it has tokens that begin with the byte {missing[0]}, and none that is this byte alone"


def _unescaped(text: bytes, most: int) -> bytes:
    """The first bytes of an RWKV token, which is escaped as in Python."""
    read = bytearray()
    at = 0
    while at < len(text) and len(read) < most:
        if text[at : at + 1] != b"\\":
            read.append(text[at])
            at += 1
        elif text[at + 1 : at + 2] == b"x":
            digits = text[at + 2 : at + 4]
            read.append(int(digits, 16) if re.fullmatch(b"[0-9a-f]{2}", digits) else 0)
            at += 4
        else:
            escaped = text[at + 1 : at + 2]
            read += {b"t": b"\t", b"n": b"\n", b"r": b"\r"}.get(escaped, escaped)
            at += 2
    return bytes(read)


def _first_byte(text: bytes) -> int:
    return (_unescaped(text, 1) or b"\0")[0]


def _single_byte(text: bytes) -> int | None:
    if len(text) > 4:
        return None
    read = _unescaped(text, 2)
    return read[0] if len(read) == 1 else None


def _check_scores(header: GgufHeader) -> None:
    array = header.metadata[f"{_KEY}scores"]
    assert isinstance(array, MetadataArray)
    if array.type_id != _FLOAT32:
        return
    scores = memoryview(header.array_bytes(f"{_KEY}scores")).cast("f")
    nan = next((token for token, score in enumerate(scores) if score != score), None)
    if nan is not None:
        raise bad_file(header.path, f"the score of its token {nan} is not a number")
