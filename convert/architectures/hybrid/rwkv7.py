"""RWKV 7 (Goose), in the layout of flash-linear-attention: states alone, without attention.

Knows no tokenizers.

Source: RWKV_x070 in BlinkDL's `rwkv` package, RWKV7Attention of flash-linear-attention and its
utils/convert_from_rwkv7.py, rwkv7.cpp and rwkv7-base.cpp of llama.cpp. What is small and added
to each token's decay, rate and gate comes as products of two narrow matrices (LoRA).
"""

from __future__ import annotations

from convert.architectures.decoder import layer
from convert.architectures.family import Family, Hyperparameters, TensorRule
from convert.architectures.hybrid.mamba import CONTEXT
from convert.config import Config, whole
from convert.errors import UnsupportedModel
from convert.gguf.header import f32, u32

NAME = "rwkv7"
_MIXES = "rwkvag"  # in the order in which llama.cpp has them
_NORM_EPS = 1e-5  # llama.cpp takes 64 times as much for each head's norm, whatever the config says
_FIRST, _LATER = "the first layer's values", "values mixed with the first layer's"

SPELLINGS = (
    (r"^model\.embeddings\.", "model.embed_tokens."),
    *((rf"\.attn\.x_{mix}$", f".attn.mix.{at}") for at, mix in enumerate(_MIXES)),
)


def _both(target: str, source: str) -> tuple[TensorRule, TensorRule]:
    weight, bias = (
        layer(f"{target}.{part}", f"{source}.{part}", ("hidden",)) for part in ("weight", "bias")
    )
    return weight, bias


def _narrow(
    mark: str, source: str, rank: str, needs: str | None = None, *, has_bias: bool = True
) -> tuple[TensorRule, ...]:
    """Two matrices, and what is added to their product."""
    rules = [
        layer(
            f"time_mix_{mark}1.weight",
            f"attn.{source}.lora.0.weight",
            (rank, "hidden"),
            needs=needs,
        ),
        layer(
            f"time_mix_{mark}2.weight",
            f"attn.{source}.lora.2.weight",
            ("hidden", rank),
            needs=needs,
        ),
    ]
    if has_bias:
        bias = layer(
            f"time_mix_{mark}0.weight", f"attn.{source}.lora.2.bias", ("hidden",), needs=needs
        )
        rules.insert(0, bias)
    return tuple(rules)


RULES = (
    TensorRule(
        target="token_embd.weight", source="model.embed_tokens.weight", shape=("vocab", "hidden")
    ),
    *(
        TensorRule(target=f"{target}.{part}", source=f"{source}.{part}", shape=("hidden",))
        for target, source in (
            ("token_embd_norm", "model.layers.0.pre_norm"),
            ("output_norm", "model.norm"),
        )
        for part in ("weight", "bias")
    ),
    TensorRule(target="output.weight", source="lm_head.weight", shape=("vocab", "hidden")),
    *_both("attn_norm", "attn_norm"),
    *_both("attn_norm_2", "ffn_norm"),
    layer("time_mix_lerp_fused.weight", "attn.mix.{expert}", ("mixes", "one", "one", "hidden")),
    *_narrow("w", "w_lora", "decay"),
    *_narrow("a", "a_lora", "rate"),
    # the first layer has nothing to mix with, and llama.cpp reads something there
    *_narrow("v", "a_lora", "rate", _FIRST),
    *_narrow("v", "v_lora", "value", _LATER),
    *_narrow("g", "g_lora", "gate", has_bias=False),
    layer("time_mix_k_k.weight", "attn.k_k", ("hidden",)),
    layer("time_mix_k_a.weight", "attn.k_a", ("hidden",)),
    layer("time_mix_r_k.weight", "attn.r_k", ("heads", "head"), becomes=("hidden",)),
    layer("time_mix_receptance.weight", "attn.r_proj.weight", ("hidden", "hidden")),
    layer("time_mix_key.weight", "attn.k_proj.weight", ("hidden", "hidden")),
    layer("time_mix_value.weight", "attn.v_proj.weight", ("hidden", "hidden")),
    layer("time_mix_output.weight", "attn.o_proj.weight", ("hidden", "hidden")),
    *_both("time_mix_ln", "attn.g_norm"),
    layer("channel_mix_lerp_k.weight", "ffn.x_k", ("hidden",)),
    layer("channel_mix_key.weight", "ffn.key.weight", ("feed_forward", "hidden")),
    layer("channel_mix_value.weight", "ffn.value.weight", ("hidden", "feed_forward")),
)
# of flash-linear-attention's config; what else it may say, llama.cpp does not compute
_FIXED = {
    "attn": None,
    "hidden_act": "sqrelu",
    "norm_eps": _NORM_EPS,
    "norm_first": True,
    "norm_bias": True,
    "tie_word_embeddings": False,
}
_DEFAULTS = {
    "head_dim": 64,
    "decay_low_rank_dim": 64,
    "a_low_rank_dim": 64,
    "v_low_rank_dim": 16,
    "gate_low_rank_dim": 128,
}


def read_config(config: Config, _tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.with_defaults(_DEFAULTS)
    hidden, num_layers = config.integer("hidden_size"), config.integer("num_hidden_layers")
    head = config.integer("head_dim")
    _check(config, hidden, head)
    ranks = {
        "decay": config.integer("decay_low_rank_dim"),
        "iclr": config.integer("a_low_rank_dim"),
        "value_residual_mix": config.integer("v_low_rank_dim"),
        "gate": config.integer("gate_low_rank_dim"),
    }
    feed_forward = config.integer("intermediate_size", 4 * hidden)
    return Hyperparameters(
        num_layers=num_layers,
        num_heads=0,
        num_kv_heads=0,
        head_dim=head,
        sizes={
            "vocab": config.integer("vocab_size"),
            "hidden": hidden,
            "feed_forward": feed_forward,
            "heads": hidden // head,
            "head": head,
            "mixes": len(_MIXES),
            "one": 1,
            "decay": ranks["decay"],
            "rate": ranks["iclr"],
            "value": ranks["value_residual_mix"],
            "gate": ranks["gate"],
        },
        features=frozenset(),
        layer_features=[frozenset({_FIRST}), *[frozenset({_LATER})] * (num_layers - 1)],
        unused=("model.layers.0.attn.v_lora.*",),
        fields=(
            u32(f"{NAME}.block_count", num_layers),
            u32(f"{NAME}.context_length", CONTEXT),
            u32(f"{NAME}.embedding_length", hidden),
            u32(f"{NAME}.feed_forward_length", feed_forward),
            u32(f"{NAME}.attention.head_count", 0),
            f32(f"{NAME}.attention.layer_norm_epsilon", _NORM_EPS),
            u32(f"{NAME}.vocab_size", config.integer("vocab_size")),
            u32(f"{NAME}.wkv.head_size", head),
            *(u32(f"{NAME}.attention.{name}_lora_rank", rank) for name, rank in ranks.items()),
        ),
    )


def _check(config: Config, hidden: int, head: int) -> None:
    for key, expected in _FIXED.items():
        if config.values.get(key, expected) != expected:
            raise UnsupportedModel(
                f"{config.path} has {key} = {config.values[key]}; llama.cpp's {NAME} only supports "
                f"{expected}."
            )
    values = config.values.get("value_dim") or hidden
    listed = values if isinstance(values, list) else [values]
    if any(whole(value) != hidden for value in listed):
        raise UnsupportedModel(
            f"{config.path} has value_dim = {values}; llama.cpp's {NAME} only supports hidden_size "
            f"{hidden}."
        )
    if head != 64:
        raise UnsupportedModel(
            f"{config.path} has heads of {head}; llama.cpp's {NAME} norms each as one of 64."
        )


RWKV7 = Family(
    name=NAME,
    models="RWKV 7",
    architectures=("RWKV7ForCausalLM", "Rwkv7ForCausalLM"),
    model_types=("rwkv7", "rwkv7_fla"),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
