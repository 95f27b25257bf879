"""A vocabulary as a GGUF of its own, compared with the checkpoint's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convert.config import Config
from convert.gguf.header import encode_header, string
from convert.tokenizer.verify import verify_vocabulary
from convert.tokenizer.vocab import Vocabulary, load_vocabulary


def verified(directory: Path, vocab_size: int, **config: Any) -> Vocabulary:
    """The vocabulary in `directory`, of which llama.cpp makes the same as its tokenizer does
    of all sample texts and added tokens.
    """
    vocabulary = load_vocabulary(directory, Config("config.json", config), vocab_size)
    path = directory / "vocabulary.gguf"
    fields = [string("general.architecture", "llama"), *vocabulary.fields()]
    path.write_bytes(encode_header(fields, []))
    verify_vocabulary(vocabulary, path)
    return vocabulary
