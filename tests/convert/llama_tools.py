"""llama.cpp as the oracle, always in a child process: `python -m
tests.convert.llama_tools COMMAND JSON`.

The parent's half runs such a child and reads its answer; only the child's half imports
llama_cpp.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]


def _ask(command: str, **arguments: Any) -> Any:
    child = _run(command, arguments)
    assert child.returncode == 0, child.stderr[-4000:]
    return json.loads(child.stdout)


def _try(command: str, **arguments: Any) -> None:
    """What it did not do, a test will miss."""
    child = _run(command, arguments)
    sys.stderr.write(child.stderr[-4000:])  # pytest shows it with a failure


def _run(command: str, arguments: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.convert.llama_tools", command, json.dumps(arguments)],
        cwd=ROOT,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        capture_output=True,
        text=True,
    )


def quantize(source: Path, outputs: dict[str, Path], imatrix: Path | None = None) -> None:
    """`llama_model_quantize` of `source` into every {type name: path}, with an
    importance matrix or without.
    """
    paths = {name: str(path) for name, path in outputs.items()}
    _ask(
        "quantize",
        source=str(source),
        outputs=paths,
        imatrix=None if imatrix is None else str(imatrix),
    )


def tokenize(model: Path, texts: list[str], *, add_special: bool) -> list[list[int]]:
    """Token ids of each text, special tokens in it recognized."""
    tokens: list[list[int]] = _ask(
        "tokenize", model=str(model), texts=texts, add_special=add_special
    )
    return tokens


def describe(model: Path) -> dict[str, Any]:
    """What llama.cpp understood of a file's metadata."""
    description: dict[str, Any] = _ask("describe", model=str(model))
    return description


def continue_text(model: Path, prompt: str, num_tokens: int) -> str:
    """The greedy continuation of `prompt`,
    with the tokenizer's own special tokens around it.
    """
    text: str = _ask("continue_text", model=str(model), prompt=prompt, num_tokens=num_tokens)
    return text


def log_probs(
    model: Path, tokens: Iterable[int], adapters: Mapping[Path, float] | None = None
) -> NDArray[np.float64]:
    """Of every token after each of `tokens`, computed in float32 with a float32 cache,
    and with `adapters` times their scales; shape (tokens, vocabulary).
    """
    scales = {str(path): scale for path, scale in (adapters or {}).items()}
    return _normed(_floats("logits", model, tokens, adapters=scales))


def _normed(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    normed: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normed


def log_probs_of_many(inputs: Mapping[Path, Iterable[int]]) -> dict[Path, NDArray[np.float64]]:
    """As `log_probs`, of several models in one child process; without those that llama.cpp
    refuses or dies of.
    """
    jobs = [
        [str(model), list(map(int, tokens)), f"{model}.npy"] for model, tokens in inputs.items()
    ]
    _try("many", calls=[["logits", job] for job in jobs])
    return {
        model: _normed(np.load(f"{model}.npy")) for model in inputs if Path(f"{model}.npy").exists()
    }


def head_log_probs_of_many(inputs: Mapping[Path, Iterable[int]]) -> dict[Path, NDArray[Any]]:
    """What the layers that draft for each model say of the token after each but the first
    of `tokens`.
    """
    jobs = [
        [str(model), list(map(int, tokens)), f"{model}.npy"] for model, tokens in inputs.items()
    ]
    _ask("many", calls=[["head_logits", job] for job in jobs])
    return {model: _normed(np.load(f"{model}.npy")) for model in inputs}


def quantize_many(jobs: Iterable[tuple[Path, dict[str, Path]]]) -> None:
    """As `quantize`, of several files in one child process."""
    calls = [
        ["quantize", [str(source), {name: str(path) for name, path in outputs.items()}, None]]
        for source, outputs in jobs
    ]
    _try("many", calls=calls)


def embedding(
    model: Path, tokens: Iterable[int], pooling: str | None = None
) -> NDArray[np.float32]:
    """The pooled embedding of `tokens`;
    `pooling` is MEAN, CLS, ... or what the file says.
    """
    return _floats("embedding", model, tokens, pooling=pooling)


def _floats(
    command: str, model: Path, tokens: Iterable[int], **arguments: Any
) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "floats.npy"
        _ask(
            command,
            model=str(model),
            tokens=list(map(int, tokens)),
            output=str(output),
            **arguments,
        )
        floats: NDArray[np.float32] = np.load(output)
    return floats


def _imatrix_weights(path: str) -> dict[str, NDArray[np.float32]]:
    """As llama-quantize reads the file (tools/quantize/quantize.cpp): sums over counts,
    ones where nothing counted.
    """
    from gguf import GGUFReader

    tensors = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}
    weights = {}
    for name, sums in tensors.items():
        if name.endswith(".in_sum2"):
            counts = tensors[name.replace(".in_sum2", ".counts")].reshape(-1)
            of_matrix = sums.reshape(len(counts), -1)
            rows = [
                row / count if count else np.ones_like(row)
                for row, count in zip(of_matrix, counts, strict=True)
            ]
            weights[name.removesuffix(".in_sum2")] = np.concatenate(rows).astype(np.float32)
    return weights


# --- the child ------------------------------------------------------------------------


class _Child:
    def __init__(self) -> None:
        import llama_cpp

        self.api = llama_cpp
        self._log = llama_cpp.llama_log_callback(self._write_errors)
        llama_cpp.llama_log_set(self._log, None)

    @staticmethod
    def _write_errors(level: int, text: bytes, _data: Any) -> None:
        if level == 4:  # GGML_LOG_LEVEL_ERROR
            sys.stderr.write(text.decode("utf-8", "replace"))

    def load(self, path: str, *, vocab_only: bool, drafts: bool = False) -> Any:
        params = self.api.llama_model_default_params()
        params.load_mtp = drafts
        params.vocab_only = vocab_only
        params.use_extra_bufts = False  # AMX is broken on some hosts
        model = self.api.llama_model_load_from_file(path.encode(), params)
        assert model, f"llama.cpp refused {path}"
        return model

    def many(self, calls: list[tuple[str, list[Any]]]) -> None:
        for method, arguments in calls:
            try:
                getattr(self, method)(*arguments)
            except AssertionError as error:
                sys.stderr.write(f"{error}\n")

    def quantize(self, source: str, outputs: dict[str, str], imatrix: str | None) -> None:
        weights = {} if imatrix is None else _imatrix_weights(imatrix)
        for type_name, path in outputs.items():
            params = self.api.llama_model_quantize_default_params()
            params.ftype = getattr(self.api, f"LLAMA_FTYPE_MOSTLY_{type_name}", 0)
            params.nthread = 2
            if weights:
                params.imatrix = self._imatrix(weights)
            assert self.api.llama_model_quantize(source.encode(), path.encode(), params) == 0

    def _imatrix(self, weights: dict[str, NDArray[np.float32]]) -> Any:
        """What llama.h wants: an array that ends with a null name."""
        import ctypes

        array = (self.api.llama_model_imatrix_data * (len(weights) + 1))()
        for entry, (name, values) in zip(array, weights.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        return array

    def tokenize(self, model: str, texts: list[str], add_special: bool) -> list[list[int]]:
        vocab = self.api.llama_model_get_vocab(self.load(model, vocab_only=True))
        return [self._tokens(vocab, text, add_special) for text in texts]

    def _tokens(self, vocab: Any, text: str, add_special: bool) -> list[int]:
        data = text.encode()
        buffer = (self.api.llama_token * (len(data) + 8))()
        count = self.api.llama_tokenize(
            vocab, data, len(data), buffer, len(buffer), add_special, True
        )
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
        # more threads would spin on a busy host
        params.n_ctx, params.n_threads, params.n_threads_batch = 512, 1, 1
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

    def logits(
        self, model: str, tokens: list[int], output: str, adapters: dict[str, float] | None = None
    ) -> None:
        adapters = adapters or {}
        loaded = self.load(model, vocab_only=False)
        handles = [
            self.api.llama_adapter_lora_init(loaded, path.encode()) for path in adapters
        ]  # before the context, whose graph has room for them
        assert all(handles)
        context = self._exact_context(loaded, len(tokens))
        if handles:
            self._adapt(context, handles, list(adapters.values()))
        self._decode(context, tokens)
        vocab_size = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(loaded))
        rows = [
            np.ctypeslib.as_array(self.api.llama_get_logits_ith(context, i), (vocab_size,))
            for i in range(len(tokens))
        ]
        np.save(output, np.stack(rows))

    def head_logits(self, model: str, tokens: list[int], output: str) -> None:
        import ctypes

        from llama_cpp import llama_cpp_ext

        loaded = self.load(model, vocab_only=False, drafts=True)
        target = self._exact_context(loaded, len(tokens))
        heads = self._exact_context(
            loaded, len(tokens), ctx_type=self.api.LLAMA_CONTEXT_TYPE_MTP, ctx_other=target
        )
        for context in (target, heads):
            llama_cpp_ext.llama_set_embeddings_nextn(context, True, False)
        self._decode(target, tokens)
        made = llama_cpp_ext.llama_get_embeddings_nextn(target)
        self._decode(
            heads, tokens[1:], first=1, made=ctypes.cast(made, ctypes.POINTER(ctypes.c_float))
        )
        size = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(loaded))
        rows = [
            np.ctypeslib.as_array(self.api.llama_get_logits_ith(heads, i), (size,))
            for i in range(len(tokens) - 1)
        ]
        np.save(output, np.stack(rows))

    def _adapt(self, context: Any, handles: list[Any], scales: list[float]) -> None:
        import ctypes

        pointers = (self.api.llama_adapter_lora_p_ctypes * len(handles))(*handles)
        numbers = (ctypes.c_float * len(scales))(*scales)
        assert self.api.llama_set_adapters_lora(context, pointers, len(handles), numbers) == 0

    def embedding(self, model: str, tokens: list[int], output: str, pooling: str | None) -> None:
        loaded = self.load(model, vocab_only=False)
        kind = None if pooling is None else getattr(self.api, f"LLAMA_POOLING_TYPE_{pooling}")
        context = self._exact_context(loaded, len(tokens), embeddings=True, pooling_type=kind)
        self._decode(context, tokens)
        size = self.api.llama_model_n_embd(loaded)
        np.save(
            output, np.ctypeslib.as_array(self.api.llama_get_embeddings_seq(context, 0), (size,))
        )

    def _exact_context(self, model: Any, num_tokens: int, **settings: Any) -> Any:
        params = self.api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = num_tokens
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = self.api.GGML_TYPE_F32
        params.flash_attn_type = self.api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        for name, value in settings.items():
            if value is not None:
                setattr(params, name, value)
        context = self.api.llama_init_from_model(model, params)
        assert context
        return context

    def _decode(self, context: Any, tokens: list[int], first: int = 0, made: Any = None) -> None:
        """`made` is what a model made of the token in front of each."""
        batch = self.api.llama_batch_init(len(tokens), 0, 1)
        if made is not None:
            batch.embd = made
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at], batch.logits[at] = token, first + at, True
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
        assert self.api.llama_decode(context, batch) == 0

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
