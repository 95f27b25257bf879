"""Makes the golden checkpoint of Gemma 3n, of which most sizes are constants in llama.cpp: its
weights are not kept, but made from their names (seeded.py).

    python tests/convert/golden/make_gemma3n.py

As published, the layers that use the keys and values of others have some that nobody reads.

Two things are computed as llama.cpp does it, so that all others are compared exactly: GELU, from
a table of half-precision numbers; and the deviation of a layer's gates, with one less than
their number. transformers divides by their number, which makes a difference of 0.006 % with
the 8,192 of the release, and would make one of 0.2 % with the 256 of this checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from seeded import WEIGHTS_FILE, seeded_weights
from torch.nn.functional import gelu
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig
from transformers.models.gemma3n import modeling_gemma3n

FOLDER = Path(__file__).parent / "newer" / "gemma3n"
NUM_TOKENS, LAYERS = 48, 22
SETTINGS = {
    "vocab_size": 272,
    "vocab_size_per_layer_input": 264,
    "hidden_size": 32,
    "intermediate_size": 256,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "sliding_window": 16,
    "num_kv_shared_layers": 2,
    "bos_token_id": None,
    "eos_token_id": 257,
    "pad_token_id": None,
}


def largest_gates(mlp: torch.nn.Module, gates: torch.Tensor) -> torch.Tensor:
    """`Gemma3nTextMLP._gaussian_topk` with the deviation as llama.cpp has it."""
    factor = torch.distributions.Normal(0, 1).icdf(torch.tensor(mlp.activation_sparsity))
    cutoff = gates.mean(-1, keepdim=True) + gates.std(-1, keepdim=True) * factor
    return torch.relu(gates - cutoff)


class TableGelu(torch.nn.Module):
    """As ggml_vec_gelu_f32."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return gelu(values.half().float(), approximate="tanh").half().float()


@torch.no_grad()
def make() -> None:
    config = Gemma3nTextConfig(**SETTINGS, attn_implementation="eager")
    model = Gemma3nForCausalLM(config).float().eval()
    shapes = {}
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            name = name.replace("layers.0.", "layers.{layer}.")
            if not name.startswith("model.layers.") or "{layer}" in name:
                shapes[name] = list(tensor.shape)
    description = {
        "layers": LAYERS,
        "small": ["post_feedforward_layernorm", "post_per_layer_input_norm"],
        "shapes": shapes,
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / WEIGHTS_FILE).write_text(json.dumps(description, indent=1) + "\n")
    weights = {name: torch.from_numpy(values) for name, values in seeded_weights(FOLDER).items()}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert missing == ["lm_head.weight"], missing
    modeling_gemma3n.Gemma3nTextMLP._gaussian_topk = largest_gates
    for layer in model.model.layers:
        layer.act_fn = layer.mlp.act_fn = TableGelu()
    tokens = np.random.default_rng(33).integers(0, 256, NUM_TOKENS)
    logits = model(torch.from_numpy(tokens)[None]).logits[0].double()
    log_probs = torch.log_softmax(logits, dim=-1).float().numpy()
    np.savez(FOLDER / "reference.npz", tokens=tokens.astype(np.int32), log_probs=log_probs)
    config.architectures = ["Gemma3nForCausalLM"]
    config.save_pretrained(FOLDER)
    print(np.sort(np.exp(log_probs), axis=1)[:, -1].mean())


if __name__ == "__main__":
    make()
