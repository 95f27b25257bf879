"""What a model keeps of each sequence beside its KV cells: a state that all its tokens have
made, in some or all layers.

Knows no other buffer and no machine.

Source: llama.cpp src/llama-hparams.cpp (`n_embd_r`, `n_embd_s`), src/models/*.cpp
(`is_recr_impl`).
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.protocol.kept_states import keeps_earlier_states
from appliance.store.gguf_header import GgufHeader

_BYTES = 4  # of a value, always f32
# Which layers have a state: those without heads for keys, or all but each n-th.
_WITHOUT_KV_HEADS = frozenset(
    ("granitehybrid", "jamba", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "plamo2")
)
_BY_INTERVAL = frozenset(("qwen35", "qwen35moe", "qwen3next"))
_ALONE = frozenset(("mamba", "mamba2", "rwkv7"))  # without attention
_SHIFTED_TOKENS = 2  # whose inputs RWKV keeps, where the file gives no number
_IN_ALL = frozenset(("falcon-h1", *_ALONE))
_USUAL_INTERVAL = 4


@dataclass(frozen=True)
class StateShape:
    """Of one sequence."""

    layers: frozenset[int] = frozenset()  # that have one
    convolved_values: int = 0  # of each of them: the last inputs of a convolution,
    scanned_values: int = 0  # and what all tokens have made
    row_values: int = 0  # that are alive at once in such a layer, of each row of a step
    keeps_earlier: bool = False  # llama.cpp can keep those of the last tokens too

    @property
    def layer_values(self) -> int:
        return self.convolved_values + self.scanned_values

    def layer_bytes(self, layer: int) -> int:
        """Of a sequence, in this layer."""
        return _BYTES * self.layer_values if layer in self.layers else 0

    @property
    def num_bytes(self) -> int:
        return _BYTES * len(self.layers) * self.layer_values


NO_STATE = StateShape()


def is_state_alone(architecture: str) -> bool:
    """Whether its layers have no attention."""
    return architecture in _ALONE


def read_state(
    header: GgufHeader, kv_heads: tuple[int, ...], feed_forwards: tuple[int, ...]
) -> StateShape:
    """By the heads for keys and the feed-forward widths of the layers, those that only
    draft left out. Raises `BadModelFile` where a dimension is no number.
    """
    layers = _layers(header, kv_heads, feed_forwards)
    if not layers:
        return NO_STATE
    arch = header.architecture
    width, keeps_earlier = header.integer(f"{arch}.embedding_length"), keeps_earlier_states(arch)
    num_convolved = header.integer(f"{arch}.shortconv.l_cache", 0)
    if num_convolved:
        return StateShape(
            layers, convolved_values=width * (num_convolved - 1), keeps_earlier=keeps_earlier
        )

    head_size = header.integer(f"{arch}.wkv.head_size", 0)
    if head_size:
        return StateShape(
            layers,
            convolved_values=width * header.integer(f"{arch}.token_shift_count", _SHIFTED_TOKENS),
            scanned_values=width * head_size,
            row_values=19 * width,  # found by dry loads
            keeps_earlier=keeps_earlier,
        )

    def dimension(name: str) -> int:
        return header.integer(f"{arch}.ssm.{name}", 0)

    inner, state = dimension("inner_size"), dimension("state_size")
    inputs = inner + 2 * dimension("group_count") * state
    return StateShape(
        layers,
        convolved_values=max(dimension("conv_kernel") - 1, 0) * inputs,
        scanned_values=state * inner,
        # found by dry loads
        row_values=7 * inner if arch in _ALONE else 2 * (width + inputs + inner) + 3 * state,
        keeps_earlier=keeps_earlier,
    )


def _layers(
    header: GgufHeader, kv_heads: tuple[int, ...], feed_forwards: tuple[int, ...]
) -> frozenset[int]:
    arch = header.architecture
    own = range(len(kv_heads))
    if arch in _IN_ALL:
        return frozenset(own)
    if arch in _BY_INTERVAL:
        interval = header.integer(f"{arch}.full_attention_interval", _USUAL_INTERVAL)
        return frozenset(at for at in own if interval < 1 or (at + 1) % interval)
    if arch in _WITHOUT_KV_HEADS:
        # Nemotron-H has layers that are nothing but a feed-forward
        is_alone = arch.startswith("nemotron")
        return frozenset(
            at for at in own if kv_heads[at] == 0 and not (is_alone and feed_forwards[at])
        )
    return frozenset()
