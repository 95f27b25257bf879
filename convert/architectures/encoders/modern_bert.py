"""ModernBERT as an encoder of texts into embeddings (GTE ModernBERT, Granite Embedding R2):
windows to both sides in most layers, rotations, gates, and norms in front of each part.

Knows no tokenizers and no classifiers.

Source: modeling_modernbert.py of transformers; llama.cpp's modern-bert.cpp, which takes
the layers without a window to be the first of each group.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import layer
from convert.architectures.family import Family, Hyperparameters, TensorRule
from convert.architectures.layer_types import layer_types
from convert.architectures.windows import FULL, SLIDING
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import boolean, f32, string, u32

NAME = "modern-bert"
_USUAL_PERIOD = 3
_ACTIVATIONS = ("gelu", "silu")
_FIXED = {"attention_bias": False, "mlp_bias": False, "norm_bias": False}
_HAS_NORM = "norm before attention"  # of every layer but the first
_THETA = {FULL: ("global_rope_theta", 160_000.0), SLIDING: ("local_rope_theta", 10_000.0)}

RULES = (
    TensorRule(
        target="token_embd.weight",
        source="embeddings.tok_embeddings.weight",
        shape=("vocab", "hidden"),
    ),
    TensorRule(target="token_embd_norm.weight", source="embeddings.norm.weight", shape=("hidden",)),
    TensorRule(target="output_norm.weight", source="final_norm.weight", shape=("hidden",)),
    *(
        replace(rule, source=rule.source.removeprefix("model."))
        for rule in (
            layer("attn_norm.weight", "attn_norm.weight", ("hidden",), needs=_HAS_NORM),
            layer("attn_qkv.weight", "attn.Wqkv.weight", ("query_key_value", "hidden")),
            layer("attn_output.weight", "attn.Wo.weight", ("hidden", "hidden")),
            layer("ffn_norm.weight", "mlp_norm.weight", ("hidden",)),
            layer("ffn_up.weight", "mlp.Wi.weight", ("up_and_gate", "hidden")),
            layer("ffn_down.weight", "mlp.Wo.weight", ("hidden", "feed_forward")),
        )
    ),
)


def read_config(config: Config, _tensor_names: frozenset[str]) -> Hyperparameters:
    _check(config)
    hidden, num_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % num_heads:
        raise DamagedCheckpoint(
            f"{config.path}: a hidden_size of {hidden} cannot be divided among {num_heads} heads."
        )
    num_layers = config.integer("num_hidden_layers")
    sizes = {
        "vocab": config.integer("vocab_size"),
        "hidden": hidden,
        "query_key_value": 3 * hidden,
        "feed_forward": config.integer("intermediate_size"),
        "up_and_gate": 2 * config.integer("intermediate_size"),
    }
    norms = [frozenset({_HAS_NORM}) if index else frozenset[str]() for index in range(num_layers)]
    return Hyperparameters(
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden // num_heads,
        sizes=sizes,
        features=frozenset(),
        layer_features=norms,
        fields=(
            u32(f"{NAME}.block_count", num_layers),
            u32(f"{NAME}.context_length", config.integer("max_position_embeddings")),
            u32(f"{NAME}.embedding_length", hidden),
            u32(f"{NAME}.feed_forward_length", sizes["feed_forward"]),
            u32(f"{NAME}.attention.head_count", num_heads),
            f32(f"{NAME}.attention.layer_norm_epsilon", config.number("norm_eps", 1e-5)),
            boolean(f"{NAME}.attention.causal", False),
            u32(f"{NAME}.attention.sliding_window", config.integer("local_attention", 128)),
            u32(f"{NAME}.attention.sliding_window_pattern", _period(config, num_layers)),
            f32(f"{NAME}.rope.freq_base", _theta(config, FULL)),
            f32(f"{NAME}.rope.freq_base_swa", _theta(config, SLIDING)),
            string(f"{NAME}.hidden_activation", config.text("hidden_activation", "gelu")),
        ),
        unused=("head.*", "decoder.*"),  # what guesses masked tokens
    )


def _check(config: Config) -> None:
    for key, expected in _FIXED.items():
        if config.flag(key, expected) != expected:
            raise UnsupportedModel(
                f"{config.path} has {key} = true; llama.cpp's {NAME} only supports false."
            )
    activation = config.text("hidden_activation", "gelu")
    if activation not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"{config.path} has hidden_activation = {activation}; llama.cpp's {NAME} only supports "
            f"{' and '.join(_ACTIVATIONS)}."
        )


def _period(config: Config, num_layers: int) -> int:
    """Of how many layers the first has no window.

    Raises `UnsupportedModel` for layers without a window in other places.
    """
    period = config.integer("global_attn_every_n_layers", _USUAL_PERIOD)
    kinds = layer_types(config, num_layers, (SLIDING, FULL), _kinds(period, num_layers))
    candidates: list[int] = [period, *range(1, num_layers + 1)]
    for candidate in candidates:
        if kinds == _kinds(candidate, num_layers):
            return candidate
    raise UnsupportedModel(
        f"{config.path} has layer_types of which llama.cpp's {NAME} does not know the order: it "
        "takes the first layer of each group to have no window."
    )


def _kinds(period: int, num_layers: int) -> list[str]:
    return [SLIDING if index % period else FULL for index in range(num_layers)]


def _theta(config: Config, kind: str) -> float:
    """The base of the rotation in layers of a kind, in both layouts of the config."""
    key, usual = _THETA[kind]
    sections = config.section("rope_parameters").values
    rope = sections.get(kind) or config.values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise DamagedCheckpoint(f"{config.path} has rope_parameters that are no object: {rope!r}.")
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        raise UnsupportedModel(
            f"{config.path} has rope_type = {rope_type!r}; llama.cpp's {NAME} does not scale the "
            "rotation."
        )
    section = Config(f"{config.path} (rope of {kind})", rope)
    return section.number("rope_theta", config.number(key, usual))


MODERN_BERT = Family(
    name=NAME,
    models="ModernBERT (GTE ModernBERT, Granite Embedding R2): embeddings",
    architectures=("ModernBertModel", "ModernBertForMaskedLM"),
    model_types=("modernbert",),
    rules=RULES,
    read_config=read_config,
    spellings=((r"^model\.", ""),),
)
