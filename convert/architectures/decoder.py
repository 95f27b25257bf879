"""What decoder-only families have in common: tensor rules to choose from, and the
reading of their configs.

Knows no family: each states as a `Decoder` where it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.architectures.rope import DEFAULT_THETA, scaled_context, scaling_fields
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, f32, u32

# A checkpoint of the bare model, without its language-modelling head, leaves the
# leading "model." out.
SPELLINGS = ((r"^(embed_tokens|layers|norm)\.", r"model.\1."),)

_SAME_ACTIVATIONS = {"swish": "silu"}  # transformers' names of one function
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """One decoder architecture of llama.cpp, as far as a config can ask for something
    else than it computes.
    """

    name: str  # llama.cpp's
    # what llama.cpp's graph takes
    activations: tuple[str, ...] = ("silu",)
    rope_types: tuple[str, ...] = ("default", "linear", "yarn", "dynamic")  # see rope.py
    rotates_part: bool = False  # rotations of a part of each head
    has_free_head_dim: bool = True  # heads that together are wider or narrower than the model
    knows_windows: bool = False  # sliding windows
    # config keys with their one value
    fixed: Mapping[str, Any] = field(default_factory=dict)
    # the epsilon of its norms: the config's key, and llama.cpp's
    epsilon: tuple[str, str] = ("rms_norm_eps", "layer_norm_rms_epsilon")
    # how a config is read
    slides: bool = False  # `sliding_window` counts where there is no `use_sliding_window`
    # of a config that leaves `sliding_window` out; null means that there is none
    default_window: int | None = None
    # the config's names for what most configs call otherwise
    keys: Mapping[str, str] = field(default_factory=dict)
    # transformers' values for keys that are left out; without one, the value in `fixed`
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def read(self, config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
        """The hyper-parameters of a `config` of this architecture.

        Raises `UnsupportedModel` for what llama.cpp would compute differently,
        `DamagedCheckpoint` for nonsense.
        """
        config = config.renamed(self.keys)
        if "sliding_window" not in config.values:
            config = config.with_defaults({"sliding_window": self.default_window})
        config = config.with_defaults(self.defaults)
        self._check(config)
        num_heads, num_kv_heads, head_dim = self._heads(config)
        sizes = {
            "vocab": config.integer("vocab_size"),
            "hidden": config.integer("hidden_size"),
            "query": num_heads * head_dim,
            "key": num_kv_heads * head_dim,
            "head": head_dim,
            "feed_forward": config.integer("intermediate_size"),
            "one": 1,
        }
        num_rotated = self._num_rotated(config, head_dim)
        num_layers = config.integer("num_hidden_layers")
        context_length, notes = self._context(config)
        tied = is_tied(config, tensor_names)
        return Hyperparameters(
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            sizes=sizes,
            features=_embedding_features(tied, tensor_names),
            fields=(
                u32(f"{self.name}.block_count", num_layers),
                u32(f"{self.name}.context_length", context_length),
                u32(f"{self.name}.embedding_length", sizes["hidden"]),
                u32(f"{self.name}.feed_forward_length", sizes["feed_forward"]),
                u32(f"{self.name}.attention.head_count", num_heads),
                u32(f"{self.name}.attention.head_count_kv", num_kv_heads),
                u32(f"{self.name}.attention.key_length", head_dim),
                u32(f"{self.name}.attention.value_length", head_dim),
                f32(f"{self.name}.attention.{self.epsilon[1]}", config.number(self.epsilon[0])),
                u32(f"{self.name}.vocab_size", sizes["vocab"]),
                u32(f"{self.name}.rope.dimension_count", num_rotated),
                f32(f"{self.name}.rope.freq_base", config.rope.number("rope_theta", DEFAULT_THETA)),
                *self._rope_scaling(config),
            ),
            unused=("*rotary_emb.inv_freq",),  # buffers that old checkpoints saved along
            copies={HEAD: EMBEDDING} if tied and {HEAD, EMBEDDING} <= tensor_names else {},
            notes=notes,
        )

    def _check(self, config: Config) -> None:
        key = "hidden_activation" if "hidden_activation" in config else "hidden_act"
        activation = config.text(key, self.activations[0])
        activation = _SAME_ACTIVATIONS.get(activation, activation)
        if activation not in self.activations:
            raise UnsupportedModel(
                f"{config.path} has {key} = {activation}; llama.cpp's {self.name} only supports "
                f"{self.activations[0]}."
            )
        for key, expected in self.fixed.items():
            if config.given(key, expected) != expected:
                value = config.values[key]
                raise UnsupportedModel(
                    f"{config.path} has {key} = {'null' if value is None else value}; llama.cpp's "
                    f"{self.name} only supports {key} = {expected}."
                )

    def _heads(self, config: Config) -> tuple[int, int, int]:
        """Query heads, key and value heads, and the size of each."""
        num_heads, hidden = config.integer("num_attention_heads"), config.integer("hidden_size")
        num_kv_heads = config.integer("num_key_value_heads", num_heads)
        head_dim = config.integer("head_dim", max(1, hidden // num_heads))
        if num_heads % num_kv_heads or head_dim % 2:
            raise DamagedCheckpoint(
                f"{config.path} has {num_heads} heads, {num_kv_heads} key/value heads and heads "
                f"of size {head_dim}: the first number must be a multiple of the second, and the "
                "size must be even."
            )
        if not self.has_free_head_dim and num_heads * head_dim != hidden:
            raise UnsupportedModel(
                f"{config.path}: {num_heads} heads of size {head_dim} do not add up to "
                f"hidden_size {hidden}, as llama.cpp's {self.name} requires."
            )
        return num_heads, num_kv_heads, head_dim

    def _num_rotated(self, config: Config, head_dim: int) -> int:
        part = config.rope.number("partial_rotary_factor", 1.0)
        if part != 1.0 and not self.rotates_part:
            raise UnsupportedModel(
                f"{config.path} has partial_rotary_factor = {part}; llama.cpp's {self.name} only "
                "rotates whole heads."
            )
        num_rotated = int(head_dim * part)
        if num_rotated < 2 or num_rotated % 2 or num_rotated > head_dim:
            raise DamagedCheckpoint(
                f"{config.path}: {num_rotated} of {head_dim} dimensions cannot be rotated in pairs."
            )
        return num_rotated

    def _context(self, config: Config) -> tuple[int, tuple[str, ...]]:
        """The longest context in which llama.cpp computes the same, and notes on it.

        Where the model slides a window and llama.cpp's graph does not, both are the
        same up to the window's length.
        """
        length, notes = scaled_context(config.rope, config.integer("max_position_embeddings"))
        if (
            self.knows_windows
            or not config.values.get("sliding_window")
            or not self._has_sliding_layers(config)
        ):
            return length, notes
        window = config.integer("sliding_window")
        if window >= length:
            return length, notes
        return window, (
            *notes,
            f"The context ends at {window} tokens instead of {length}: there the model's sliding "
            f"window begins to slide, which llama.cpp's {self.name} does not compute. Up to "
            "there, both compute the same.",
        )

    def _has_sliding_layers(self, config: Config) -> bool:
        layer_types = config.values.get("layer_types")
        if isinstance(layer_types, list):
            return "sliding_attention" in layer_types
        return config.flag("use_sliding_window", self.slides)

    def _rope_scaling(self, config: Config) -> tuple[Field, ...]:
        return scaling_fields(
            self.name, config.rope, self.rope_types, config.integer("max_position_embeddings")
        )


def is_tied(config: Config, tensor_names: frozenset[str]) -> bool:
    """Whether embedding and output are one matrix; a config that does not say is read
    by what the checkpoint holds.
    """
    return config.flag("tie_word_embeddings", not {HEAD, EMBEDDING} <= tensor_names)


def with_fields(hyper: Hyperparameters, *fields: Field) -> Hyperparameters:
    """`hyper` with these fields, each in the place of one with its key."""
    keys = {field.key for field in fields}
    kept = (field for field in hyper.fields if field.key not in keys)
    return replace(hyper, fields=(*kept, *fields))


def with_switches(
    hyper: Hyperparameters, config: Config, switches: Mapping[str, bool]
) -> Hyperparameters:
    """`hyper` with a feature for each flag of the config that is on; `switches` has what
    transformers takes where one is left out.
    """
    on = {key for key, default in switches.items() if config.flag(key, default)}
    return replace(hyper, features=hyper.features | on)


def without_head(family: Family) -> Family:
    """The family of the same layers whose last ones are pooled: a head is neither needed
    nor kept.
    """

    def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
        hyper = family.read_config(config, tensor_names)
        if "own output" not in hyper.features:
            return hyper
        features = hyper.features - {"own output"} | {"shared output"}
        return replace(hyper, features=features, unused=(*hyper.unused, HEAD))

    return replace(family, read_config=read_config)


def _embedding_features(tied: bool, tensor_names: frozenset[str]) -> frozenset[str]:
    if not tied:
        return frozenset({"embedding", "own output"})
    only_head = HEAD in tensor_names and EMBEDDING not in tensor_names
    return frozenset({"embedding as output" if only_head else "embedding", "shared output"})


# --- rules ----------------------------------------------------------------------------


def layer(
    target: str,
    source: str,
    shape: tuple[str, ...],
    rows: Rows = Rows.KEEP,
    needs: str | None = None,
    *,
    order: str | None = None,
    columns: str | None = None,
    scale: str | None = None,
    becomes: tuple[str, ...] | None = None,
) -> TensorRule:
    """A rule for a tensor of every layer."""
    return TensorRule(
        target="blk.{layer}." + target,
        source="model.layers.{layer}." + source,
        shape=shape,
        rows=rows,
        needs=needs,
        order=order,
        columns=columns,
        scale=scale,
        becomes=becomes,
    )


def outer_rules(norm: Rows = Rows.KEEP) -> tuple[TensorRule, ...]:
    """The tensors before and after the layers."""
    return (
        TensorRule(
            target="token_embd.weight",
            source=EMBEDDING,
            shape=("vocab", "hidden"),
            needs="embedding",
        ),
        TensorRule(
            target="token_embd.weight",
            source=HEAD,
            shape=("vocab", "hidden"),
            needs="embedding as output",
        ),
        TensorRule(
            target="output_norm.weight", source="model.norm.weight", shape=("hidden",), rows=norm
        ),
        TensorRule(
            target="output.weight", source=HEAD, shape=("vocab", "hidden"), needs="own output"
        ),
    )


def norm_rules(norm: Rows = Rows.KEEP) -> tuple[TensorRule, ...]:
    """One norm before attention, one before the feed-forward network."""
    return (
        layer("attn_norm.weight", "input_layernorm.weight", ("hidden",), norm),
        layer("ffn_norm.weight", "post_attention_layernorm.weight", ("hidden",), norm),
    )


def attention_rules(rotated: Rows = Rows.KEEP) -> tuple[TensorRule, ...]:
    """Projections; `rotated` is for those that the rotation applies to."""
    return (
        layer("attn_q.weight", "self_attn.q_proj.weight", ("query", "hidden"), rotated),
        layer("attn_k.weight", "self_attn.k_proj.weight", ("key", "hidden"), rotated),
        layer("attn_v.weight", "self_attn.v_proj.weight", ("key", "hidden")),
        layer("attn_output.weight", "self_attn.o_proj.weight", ("hidden", "query")),
    )


def qkv_bias_rules(rotated: Rows = Rows.KEEP, needs: str | None = None) -> tuple[TensorRule, ...]:
    return (
        layer("attn_q.bias", "self_attn.q_proj.bias", ("query",), rotated, needs),
        layer("attn_k.bias", "self_attn.k_proj.bias", ("key",), rotated, needs),
        layer("attn_v.bias", "self_attn.v_proj.bias", ("key",), needs=needs),
    )


def bias_rules(*names: tuple[str, str, str], needs: str | None = None) -> tuple[TensorRule, ...]:
    """Biases by target, source and the word for their length."""
    return tuple(
        layer(f"{target}.bias", f"{source}.bias", (size,), needs=needs)
        for target, source, size in names
    )


def qk_norm_rules(norm: Rows = Rows.KEEP) -> tuple[TensorRule, ...]:
    """Norms of each head's query and key."""
    return (
        layer("attn_q_norm.weight", "self_attn.q_norm.weight", ("head",), norm),
        layer("attn_k_norm.weight", "self_attn.k_norm.weight", ("head",), norm),
    )


def feed_forward_rules() -> tuple[TensorRule, ...]:
    return (
        layer("ffn_gate.weight", "mlp.gate_proj.weight", ("feed_forward", "hidden")),
        layer("ffn_up.weight", "mlp.up_proj.weight", ("feed_forward", "hidden")),
        layer("ffn_down.weight", "mlp.down_proj.weight", ("hidden", "feed_forward")),
    )
