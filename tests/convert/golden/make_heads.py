"""Makes golden heads: the layer that predicts one token more, with random weights, for some
of the golden checkpoints; and what it says of the token after next.

    python tests/convert/golden/make_heads.py

transformers leaves that layer out; it is built of its parts here, as vLLM's
qwen3_5_mtp.py and qwen3_next_mtp.py compute it: what the model made of a token (after its
last norm) and the embedding of the next one, each normed, are joined by `mtp.fc` and go
through one layer with attention, a norm, and the model's own head.

heads/NAME.safetensors has the weights; heads/NAME.npz `log_probs`, for each of the
checkpoint's tokens but the first, of the token after it.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from make import randomize
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

GOLDEN = Path(__file__).parent
# whose experts of the heads are in one tensor, other than those of the checkpoint
NAMES = {"qwen35": False, "qwen35_moe": False, "qwen3_next": True}


class Heads(torch.nn.Module):
    """The layer, its weights named as they are published (without `mtp.`)."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        base, config = model.model, model.config
        layer, norm = type(base.layers[0]), type(base.norm)
        size, epsilon = config.hidden_size, config.rms_norm_eps
        self.config = config
        self.fc = torch.nn.Linear(2 * size, size, bias=False)
        self.pre_fc_norm_embedding = norm(size, eps=epsilon)
        self.pre_fc_norm_hidden = norm(size, eps=epsilon)
        index = config.layer_types.index("full_attention")
        self.layers = torch.nn.ModuleList([layer(config, index)])
        self.norm = norm(size, eps=epsilon)

    def forward(self, model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        base = model.model
        made = base(tokens).last_hidden_state[:, :-1]
        embedded = base.embed_tokens(tokens[:, 1:])
        joined = torch.cat(
            [self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(made)], dim=-1
        )
        count = joined.shape[1]
        positions = torch.arange(1, count + 1)[None]  # of the token that is embedded
        mask = torch.full((count, count), float("-inf")).triu(1)[None, None]
        output = self.layers[0](
            self.fc(joined),
            position_embeddings=base.rotary_emb(joined, positions),
            attention_mask=mask,
        )
        output = output[0] if isinstance(output, tuple) else output
        return model.lm_head(self.norm(output))


@torch.no_grad()
def make(name: str, *, is_fused: bool) -> None:
    folder = GOLDEN / "newer" / name
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model.config._experts_implementation = "eager"
    reference = np.load(folder / "reference.npz")
    tokens = torch.from_numpy(reference["tokens"].astype(np.int64))[None]
    ours = torch.log_softmax(model(tokens).logits[0].double(), dim=-1).float().numpy()
    assert np.abs(ours - reference["log_probs"]).max() < 1e-4, "the checkpoint was misread"
    heads = Heads(model).eval()
    randomize(heads, torch.Generator().manual_seed(zlib.crc32(f"heads {name}".encode())))
    for parameter in heads.parameters():
        parameter.copy_(parameter.bfloat16().float())
    logits = heads(model, tokens)[0].double()
    (GOLDEN / "heads").mkdir(exist_ok=True)
    np.savez(
        GOLDEN / "heads" / f"{name}.npz",
        log_probs=torch.log_softmax(logits, dim=-1).float().numpy(),
    )
    tensors = {f"mtp.{key}": value.bfloat16() for key, value in heads.state_dict().items()}
    if not is_fused:
        tensors = experts_apart(tensors)
    save_file(
        {key: value.contiguous() for key, value in tensors.items()},
        GOLDEN / "heads" / f"{name}.safetensors",
        metadata={"format": "pt"},
    )


def experts_apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One tensor for each expert."""
    apart: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        block, _, part = name.rpartition(".experts.")
        if part == "gate_up_proj":
            for index, both in enumerate(tensor):
                gate, up = both.chunk(2)
                apart[f"{block}.experts.{index}.gate_proj.weight"] = gate
                apart[f"{block}.experts.{index}.up_proj.weight"] = up
        elif part == "down_proj":
            for index, down in enumerate(tensor):
                apart[f"{block}.experts.{index}.down_proj.weight"] = down
        else:
            apart[name] = tensor
    return apart


if __name__ == "__main__":
    for name, is_fused in NAMES.items():
        make(name, is_fused=is_fused)
