"""Makes newer/rwkv7: a tiny RWKV 7 of random weights, and what BlinkDL's own `rwkv` package
computes with them in float32.

    python tests/convert/golden/make_rwkv7.py

Needs torch, safetensors and rwkv (0.8.32 made what is here): transformers has no RWKV 7, and
flash-linear-attention, in whose layout the checkpoint is, needs a GPU.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

os.environ.update(RWKV_JIT_ON="0", RWKV_CUDA_ON="0", RWKV_V7_ON="1")
from rwkv.model import RWKV  # reads the environment when it is imported

FOLDER = Path(__file__).parent / "newer" / "rwkv7"
NUM_TOKENS, VOCAB, HIDDEN, HEAD, LAYERS, FEED_FORWARD = 48, 272, 128, 64, 2, 64
RANKS = {"w": 16, "a": 12, "v": 8, "g": 20}
THEIRS = {"r_proj": "receptance", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
CONFIG = {
    "architectures": ["RWKV7ForCausalLM"],
    "model_type": "rwkv7",
    "a_low_rank_dim": RANKS["a"],
    "attn": None,
    "attn_mode": "chunk",
    "bos_token_id": None,
    "decay_low_rank_dim": RANKS["w"],
    "eos_token_id": 257,
    "fuse_norm": False,
    "gate_low_rank_dim": RANKS["g"],
    "head_dim": HEAD,
    "hidden_act": "sqrelu",
    "hidden_ratio": 0.5,
    "hidden_size": HIDDEN,
    "intermediate_size": FEED_FORWARD,
    "max_position_embeddings": 2048,
    "norm_bias": True,
    "norm_eps": 1e-05,
    "norm_first": True,
    "num_hidden_layers": LAYERS,
    "num_heads": HIDDEN // HEAD,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "v_low_rank_dim": RANKS["v"],
    "value_dim": [HIDDEN] * LAYERS,
    "vocab_size": VOCAB,
}


def main() -> None:
    torch.manual_seed(7)
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in random_tensors().items()}
    tokens = torch.randint(0, 256, (NUM_TOKENS,)).tolist()
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(tensors, FOLDER / "model.safetensors", metadata={"format": "pt"})
    (FOLDER / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    theirs = {their_name(name): as_theirs(name, tensor) for name, tensor in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs, Path(folder, "tiny.pth"))
        model = RWKV(model=str(Path(folder, "tiny")), strategy="cpu fp32")
        logits, _ = model.forward(tokens, None, full_output=True)
    log_probs = torch.log_softmax(logits.double(), dim=-1).float().numpy()
    np.savez_compressed(
        FOLDER / "reference.npz", tokens=np.array(tokens, np.int32), log_probs=log_probs
    )


def random_tensors() -> dict[str, torch.Tensor]:
    def normal(*shape: int, scale: float = 0.1, mean: float = 0.0) -> torch.Tensor:
        return mean + scale * torch.randn(*shape)

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {
            f"{name}.weight": normal(HIDDEN, scale=0.3, mean=1.0),
            f"{name}.bias": normal(HIDDEN, scale=0.3),
        }

    found = {
        "model.embeddings.weight": normal(VOCAB, HIDDEN, scale=1.0),
        "lm_head.weight": normal(VOCAB, HIDDEN, scale=0.2),
        **norm("model.norm"),
        **norm("model.layers.0.pre_norm"),
    }
    for index in range(LAYERS):
        layer = f"model.layers.{index}."
        found |= norm(f"{layer}attn_norm") | norm(f"{layer}ffn_norm") | norm(f"{layer}attn.g_norm")
        for mix in "rwkvag":
            found[f"{layer}attn.x_{mix}"] = torch.rand(1, 1, HIDDEN)
        for mark, rank in RANKS.items():
            if index or mark != "v":
                found[f"{layer}attn.{mark}_lora.lora.0.weight"] = normal(rank, HIDDEN, scale=0.2)
                found[f"{layer}attn.{mark}_lora.lora.2.weight"] = normal(HIDDEN, rank, scale=0.4)
            if mark != "g" and (index or mark != "v"):
                found[f"{layer}attn.{mark}_lora.lora.2.bias"] = normal(HIDDEN, scale=1.0)
        found[f"{layer}attn.k_k"] = normal(HIDDEN, scale=0.3, mean=0.7)
        found[f"{layer}attn.k_a"] = normal(HIDDEN, scale=0.3, mean=1.0)
        found[f"{layer}attn.r_k"] = normal(HIDDEN // HEAD, HEAD, scale=0.3)
        for name in THEIRS:
            found[f"{layer}attn.{name}.weight"] = normal(HIDDEN, HIDDEN)
        found[f"{layer}ffn.x_k"] = torch.rand(HIDDEN)
        found[f"{layer}ffn.key.weight"] = normal(FEED_FORWARD, HIDDEN)
        found[f"{layer}ffn.value.weight"] = normal(HIDDEN, FEED_FORWARD)
    return found


def their_name(name: str) -> str:
    outer = {"model.embeddings": "emb", "lm_head": "head", "model.norm": "ln_out"}
    for ours, theirs in outer.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    name = name.replace("model.layers.", "blocks.").replace(".attn.", ".att.")
    name = name.replace(".pre_norm.", ".ln0.").replace(".attn_norm.", ".ln1.")
    name = name.replace(".ffn_norm.", ".ln2.").replace(".g_norm.", ".ln_x.")
    for ours, theirs in THEIRS.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    for part, number in (("0.weight", 1), ("2.weight", 2), ("2.bias", 0)):
        name = re.sub(rf"\.([wavg])_lora\.lora\.{re.escape(part)}$", rf".\g<1>{number}", name)
    return name


def as_theirs(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.t().contiguous() if re.search(r"lora\.[02]\.weight$", name) else tensor


if __name__ == "__main__":
    main()
