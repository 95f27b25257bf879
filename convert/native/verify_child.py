"""Tokenizes texts in a process of its own, which native code may end: `python -m
convert.native.verify_child`.

Knows nothing of what the token ids are compared with.

    request: {"reference": "<tokenizer.json>", "texts": [...]}
    answer:  [[plain ids, ids with special tokens around them], ...]

    request: {"gguf": {"<path>": [text, ...], ...}}
    answer:  {"<path>": [[plain ids, ids with special tokens around them], ...], ...}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from convert.child import Refused, serve

_LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR

TokenIds = list[int]
Encoded = tuple[TokenIds, TokenIds]


def encode_reference(tokenizer_json: str, texts: list[str]) -> list[Encoded]:
    """Ids as Hugging Face's `tokenizers` gives them; whole texts, whatever the file
    says of truncation and padding. Of a kind that it does not know, as our own encoder does.
    """
    from tokenizers import Tokenizer

    from convert.tokenizer.own_encoders import encoder_of

    encode = encoder_of(json.loads(tokenizer_json))
    if encode is not None:
        return [(ids, ids) for ids in map(encode, texts)]
    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises nothing narrower
        raise Refused(
            f"Hugging Face's tokenizers library cannot read the checkpoint's tokenizer: {error}"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [
        (
            tokenizer.encode(text, add_special_tokens=False).ids,
            tokenizer.encode(text, add_special_tokens=True).ids,
        )
        for text in texts
    ]


def encode_gguf(texts_by_path: dict[str, list[str]]) -> dict[str, list[Encoded]]:
    """Ids as llama.cpp gives them with the vocabulary of each file; special tokens in
    the texts are recognized.
    """
    import llama_cpp

    complaints: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]  # the bindings carry no types
    def on_log(level: int, text: bytes, _data: object) -> None:
        if level >= _LEVEL_ERROR:
            complaints.append(text.decode(errors="replace"))

    llama_cpp.llama_log_set(on_log, None)
    encoded = {}
    for path, texts in texts_by_path.items():
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        if not model:
            raise Refused(f"llama.cpp cannot load the new file: {''.join(complaints[-5:]).strip()}")
        vocab = llama_cpp.llama_model_get_vocab(model)
        encoded[path] = [
            (_encode(vocab, text, False), _encode(vocab, text, True)) for text in texts
        ]
        llama_cpp.llama_model_free(model)
    return encoded


def _encode(vocab: Any, text: str, add_special: bool) -> TokenIds:
    import llama_cpp

    data = text.encode()
    capacity = len(data) + 16
    while True:
        buffer = (llama_cpp.llama_token * capacity)()
        count = llama_cpp.llama_tokenize(
            vocab, data, len(data), buffer, capacity, add_special, True
        )
        if count >= 0:
            return list(buffer[:count])
        capacity = -count


def answer(request: Any, _send: Callable[[object], None]) -> object:
    if "reference" in request:
        return encode_reference(request["reference"], request["texts"])
    return encode_gguf(request["gguf"])


if __name__ == "__main__":
    serve(answer)
