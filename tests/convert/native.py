"""llama.cpp as the oracle, always in a child process: `python -m tests.convert.native COMMAND JSON`.

The parent's half runs such a child and reads its answer; only the child's half imports llama_cpp.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _ask(command: str, **arguments: Any) -> Any:
    child = subprocess.run(
        [sys.executable, "-m", "tests.convert.native", command, json.dumps(arguments)],
        cwd=ROOT,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-4000:]
    return json.loads(child.stdout)


def quantize(source: Path, outputs: dict[str, Path]) -> None:
    """`llama_model_quantize` of `source` into every {type name: path}."""
    _ask("quantize", source=str(source), outputs={name: str(path) for name, path in outputs.items()})


def tokenize(model: Path, texts: list[str], *, add_special: bool) -> list[list[int]]:
    """Token ids of each text, special tokens in it recognized."""
    tokens: list[list[int]] = _ask("tokenize", model=str(model), texts=texts, add_special=add_special)
    return tokens


def describe(model: Path) -> dict[str, Any]:
    """What llama.cpp understood of a file's metadata."""
    description: dict[str, Any] = _ask("describe", model=str(model))
    return description


def continue_text(model: Path, prompt: str, num_tokens: int) -> str:
    """The greedy continuation of `prompt`, with the tokenizer's own special tokens around it."""
    text: str = _ask("continue_text", model=str(model), prompt=prompt, num_tokens=num_tokens)
    return text


# --- the child -------------------------------------------------------------------------------------------------------


class _Child:
    def __init__(self) -> None:
        import llama_cpp

        self.api = llama_cpp
        self._silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._silence, None)

    def load(self, path: str, *, vocab_only: bool) -> Any:
        params = self.api.llama_model_default_params()
        params.vocab_only = vocab_only
        params.use_extra_bufts = False  # AMX is broken on some hosts
        model = self.api.llama_model_load_from_file(path.encode(), params)
        assert model, f"llama.cpp refused {path}"
        return model

    def quantize(self, source: str, outputs: dict[str, str]) -> None:
        for type_name, path in outputs.items():
            params = self.api.llama_model_quantize_default_params()
            params.ftype = getattr(self.api, f"LLAMA_FTYPE_MOSTLY_{type_name}", 0)
            params.nthread = 2
            assert self.api.llama_model_quantize(source.encode(), path.encode(), params) == 0

    def tokenize(self, model: str, texts: list[str], add_special: bool) -> list[list[int]]:
        vocab = self.api.llama_model_get_vocab(self.load(model, vocab_only=True))
        return [self._tokens(vocab, text, add_special) for text in texts]

    def _tokens(self, vocab: Any, text: str, add_special: bool) -> list[int]:
        data = text.encode()
        buffer = (self.api.llama_token * (len(data) + 8))()
        count = self.api.llama_tokenize(vocab, data, len(data), buffer, len(buffer), add_special, True)
        assert count >= 0
        return list(buffer[:count])

    def describe(self, model: str) -> dict[str, Any]:
        loaded = self.load(model, vocab_only=True)
        vocab = self.api.llama_model_get_vocab(loaded)
        template = self.api.llama_model_chat_template(loaded, None)
        return {
            "bos": self.api.llama_vocab_bos(vocab),
            "eos": self.api.llama_vocab_eos(vocab),
            "eot": self.api.llama_vocab_eot(vocab),
            "pad": self.api.llama_vocab_pad(vocab),
            "add_bos": self.api.llama_vocab_get_add_bos(vocab),
            "num_tokens": self.api.llama_vocab_n_tokens(vocab),
            "chat_template": template.decode() if template else None,
        }

    def continue_text(self, model: str, prompt: str, num_tokens: int) -> str:
        loaded = self.load(model, vocab_only=False)
        vocab = self.api.llama_model_get_vocab(loaded)
        params = self.api.llama_context_default_params()
        params.n_ctx, params.n_threads, params.n_threads_batch = 512, 1, 1  # more threads would spin on a busy host
        context = self.api.llama_init_from_model(loaded, params)
        assert context
        tokens = self._tokens(vocab, prompt, add_special=True)
        pending, text = tokens, b""
        for _ in range(num_tokens):
            row = (self.api.llama_token * len(pending))(*pending)
            assert self.api.llama_decode(context, self.api.llama_batch_get_one(row, len(row))) == 0
            logits = self.api.llama_get_logits_ith(context, -1)
            best = max(range(self.api.llama_vocab_n_tokens(vocab)), key=lambda token: logits[token])
            text += self._piece(vocab, best)
            pending = [best]
        return text.decode("utf-8", "replace")

    def _piece(self, vocab: Any, token: int) -> bytes:
        import ctypes

        buffer = ctypes.create_string_buffer(64)
        count = self.api.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[:count]


if __name__ == "__main__":
    answer = getattr(_Child(), sys.argv[1])(**json.loads(sys.argv[2]))
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # the operating system frees models and contexts faster than their destructors
