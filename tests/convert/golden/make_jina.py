"""Makes the golden checkpoints of Jina BERT, which transformers does not have: what its
publisher's modeling_bert.py computes is written here once more (jinaai/jina-bert-implementation
for English, jinaai/jina-bert-v2-qk-post-norm for code and other languages).

    python tests/convert/golden/make_jina.py

As make.py's: random weights of a fixed seed, and in reference.npz the `tokens`, and the
`mean` and `cls` of the last layer.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import gelu, layer_norm

NEWER = Path(__file__).parent / "newer"
VOCAB, HIDDEN, FEED_FORWARD, LAYERS, HEADS, EPSILON = 272, 48, 64, 2, 6, 1e-12
NUM_TOKENS = 48
Tensors = dict[str, torch.Tensor]


def shapes(has_more_norms: bool) -> dict[str, tuple[int, ...]]:
    """Of every tensor, by its published name."""
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (VOCAB, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }
    norms, linears = ["embeddings.LayerNorm"], {}
    for index in range(LAYERS):
        at = f"encoder.layer.{index}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linears[f"{at}attention.{part}"] = (HIDDEN, HIDDEN)
        linears[at + ("mlp.down_layer" if has_more_norms else "mlp.wo")] = (HIDDEN, FEED_FORWARD)
        fused = "mlp.up_gated_layer" if has_more_norms else "mlp.gated_layers"
        found[f"{at}{fused}.weight"] = (2 * FEED_FORWARD, HIDDEN)
        more = ("attention.self.layer_norm_q", "attention.self.layer_norm_k")
        more = (*more, "layer_norm_1", "layer_norm_2") if has_more_norms else ("mlp.layernorm",)
        norms += [at + name for name in ("attention.output.LayerNorm", *more)]
    for name, size in linears.items():
        found |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    for name in norms:
        found |= {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}
    return found


def random(has_more_norms: bool, seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, size in sorted(shapes(has_more_norms).items()):
        values = torch.randn(size, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            values = torch.rand(size, generator=generator) + 0.5
        elif len(size) == 1:
            values *= 0.3
        elif "embeddings" not in name:
            values *= 1.2 / size[-1] ** 0.5
            # ggml's GELU is from a table of float16
            values *= 0.1 if name.endswith(("mlp.wo.weight", "mlp.down_layer.weight")) else 1.0
        tensors[name] = values.to(torch.bfloat16)
    return tensors


def slopes(num_heads: int) -> torch.Tensor:
    """Of ALiBi, for a number of heads that may be no power of two."""

    def of_power(count: int) -> list[float]:
        return [2.0 ** (-8.0 * (index + 1) / count) for index in range(count)]

    power = 1 << (num_heads.bit_length() - 1)
    return torch.tensor([*of_power(power), *of_power(2 * power)[::2][: num_heads - power]])


def compute(tensors: Tensors, tokens: torch.Tensor, has_more_norms: bool) -> torch.Tensor:
    """The last layer, (tokens, hidden), in float32."""
    wide = {name: values.float() for name, values in tensors.items()}

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ wide[f"{name}.weight"].T + wide.get(f"{name}.bias", torch.zeros(()))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(x, (HIDDEN,), wide[f"{name}.weight"], wide[f"{name}.bias"], EPSILON)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(len(tokens), HEADS, -1).transpose(0, 1)

    places = torch.arange(len(tokens))
    bias = -slopes(HEADS)[:, None, None] * (places[:, None] - places).abs()
    words, types = (f"embeddings.{name}_embeddings.weight" for name in ("word", "token_type"))
    x = norm(wide[words][tokens] + wide[types][0], "embeddings.LayerNorm")
    for index in range(LAYERS):
        at = f"encoder.layer.{index}."
        own = f"{at}attention.self."
        query, key, value = (linear(x, own + part) for part in ("query", "key", "value"))
        if has_more_norms:
            query, key = norm(query, f"{own}layer_norm_q"), norm(key, f"{own}layer_norm_k")
        scores = heads(query) @ heads(key).transpose(1, 2) / (HIDDEN // HEADS) ** 0.5
        seen = torch.softmax(scores + bias, -1) @ heads(value)
        seen = linear(
            seen.transpose(0, 1).reshape(len(tokens), HIDDEN), f"{at}attention.output.dense"
        )
        seen = norm(seen + x, f"{at}attention.output.LayerNorm")
        if has_more_norms:
            x = norm(x + seen, f"{at}layer_norm_1")
            up, gate = linear(x, f"{at}mlp.up_gated_layer").chunk(2, -1)
            x = norm(x + linear(up * gelu(gate), f"{at}mlp.down_layer"), f"{at}layer_norm_2")
        else:
            gate, up = linear(seen, f"{at}mlp.gated_layers").chunk(2, -1)
            x = norm(linear(gelu(gate) * up, f"{at}mlp.wo") + seen, f"{at}mlp.layernorm")
    return x


def make(name: str, architecture: str, *, has_more_norms: bool, seed: int) -> None:
    tensors = random(has_more_norms, seed)
    tokens = np.random.default_rng(seed).integers(5, 256, NUM_TOKENS)
    last = compute(tensors, torch.from_numpy(tokens), has_more_norms)
    folder = NEWER / name
    folder.mkdir(exist_ok=True)
    arrays = {"mean": last.mean(dim=0).numpy(), "cls": last[0].numpy()}
    np.savez(folder / "reference.npz", tokens=tokens.astype(np.int32), **arrays)
    before = "bert." if architecture.endswith("ForMaskedLM") else ""
    saved = {before + key: values.contiguous() for key, values in tensors.items()}
    saved[f"{before}pooler.dense.bias"] = torch.ones(HIDDEN, dtype=torch.bfloat16)
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": [architecture],
        "model_type": "bert",
        "attn_implementation": "torch",
        "emb_pooler": "mean",
        "feed_forward_type": "geglu",
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "layer_norm_eps": EPSILON,
        "max_position_embeddings": 512,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "position_embedding_type": "alibi",
        "type_vocab_size": 2,
        "vocab_size": VOCAB,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    make("jina_bert", "JinaBertModel", has_more_norms=False, seed=21)
    make("jina_bert_code", "JinaBertForMaskedLM", has_more_norms=True, seed=22)
