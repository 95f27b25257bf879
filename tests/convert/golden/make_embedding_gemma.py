"""Makes the golden checkpoint of EmbeddingGemma as sentence-transformers publishes it: Gemma 3
that sees to both sides, its mean, and two matrices after that.

    python tests/convert/golden/make_embedding_gemma.py

As make.py's; `mean` in reference.npz is what comes out at the end, before it is normalized.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from make import randomize
from safetensors.torch import save_file
from transformers import Gemma3TextConfig, Gemma3TextModel

FOLDER = Path(__file__).parent / "newer" / "embedding_gemma"
HIDDEN, WIDE, NUM_TOKENS = 64, 96, 48
KINDS = ("Transformer", "Pooling", "Dense", "Dense", "Normalize")
CONFIG = {
    "vocab_size": 272,
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "max_position_embeddings": 512,
    "sliding_window": 16,
    "use_bidirectional_attention": True,
    "bos_token_id": None,
    "eos_token_id": 257,
    "pad_token_id": None,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
    },
}


def save_modules(matrices: list[torch.Tensor]) -> None:
    paths = [f"{index}_{kind}" if index else "" for index, kind in enumerate(KINDS)]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, (kind, path) in enumerate(zip(KINDS, paths, strict=True))
    ]
    (FOLDER / "modules.json").write_text(json.dumps(modules, indent=2) + "\n")
    (FOLDER / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}
    (FOLDER / "1_Pooling" / "config.json").write_text(json.dumps(pooling) + "\n")
    for index, matrix in enumerate(matrices):
        folder = FOLDER / f"{2 + index}_Dense"
        folder.mkdir(exist_ok=True)
        settings = {
            "in_features": matrix.shape[1],
            "out_features": matrix.shape[0],
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        (folder / "config.json").write_text(json.dumps(settings) + "\n")
        save_file({"linear.weight": matrix.contiguous()}, folder / "model.safetensors")


@torch.no_grad()
def make() -> None:
    generator = torch.Generator().manual_seed(41)
    made = Gemma3TextModel(Gemma3TextConfig(**CONFIG))
    randomize(made, generator)
    made.to(torch.bfloat16).save_pretrained(FOLDER)
    matrices = [
        torch.randn(shape, generator=generator).mul(1.2 / shape[1] ** 0.5).bfloat16().float()
        for shape in ((WIDE, HIDDEN), (HIDDEN, WIDE))
    ]
    save_modules(matrices)
    model = Gemma3TextModel.from_pretrained(
        FOLDER, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokens = np.random.default_rng(41).integers(0, 256, NUM_TOKENS)
    mean = model(torch.from_numpy(tokens)[None]).last_hidden_state[0].mean(dim=0)
    for matrix in matrices:
        mean = matrix @ mean
    np.savez(FOLDER / "reference.npz", tokens=tokens.astype(np.int32), mean=mean.numpy())


if __name__ == "__main__":
    make()
