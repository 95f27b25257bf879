"""Describes which model each of some GGUFs holds, by their metadata alone: `python -m
convert.native.describe_child`.

    request: {"paths": [path, ...]}
    answer:  for each path null where llama.cpp cannot load it, else
             {"architecture": text, "name": text, "sizes": [text, ...],
              "num_vocab": tokens, "file_type": number as text}

A text is empty where the file does not say.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import llama_cpp

from convert.child import serve

_VALUE_BYTES = 1024
_SIZE_KEYS = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")


def describe(request: Any, _send: Callable[[object], None]) -> list[dict[str, object] | None]:
    return [_describe(path) for path in request["paths"]]


def _describe(path: str) -> dict[str, object] | None:
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        return None
    architecture = _text(model, "general.architecture")
    described: dict[str, object] = {
        "architecture": architecture,
        "name": _text(model, "general.name"),
        "sizes": [_text(model, f"{architecture}.{key}") for key in _SIZE_KEYS],
        "num_vocab": llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)),
        "file_type": _text(model, "general.file_type"),
    }
    llama_cpp.llama_model_free(model)
    return described


def _text(model: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(_VALUE_BYTES)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if length >= 0 else ""


if __name__ == "__main__":
    serve(describe)
