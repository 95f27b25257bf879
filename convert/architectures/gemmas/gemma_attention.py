"""How the later Gemmas scale attention and slide windows. Knows no tensors."""

from __future__ import annotations

from convert.architectures.family import Hyperparameters
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, boolean_array, u32


def check_attention_scale(
    config: Config, hyper: Hyperparameters, num_layers_of_largest: int
) -> None:
    """Raises `UnsupportedModel` for a scale other than the one llama.cpp derives.

    That is the size of a head, or in the largest model of each generation (27B, which
    llama.cpp knows by its number of layers) the hidden size shared out among the heads.
    Source: `load_arch_hparams` in its gemma2.cpp and gemma3.cpp.
    """
    is_largest = hyper.num_layers == num_layers_of_largest
    derived = hyper.sizes["hidden"] // hyper.num_heads if is_largest else hyper.head_dim
    scalar = config.number("query_pre_attn_scalar")
    if scalar != derived:
        raise UnsupportedModel(
            f"{config.path} has query_pre_attn_scalar = {scalar:g}; llama.cpp scales attention by "
            f"{derived} here."
        )


def window_fields(
    name: str, config: Config, num_layers: int, usual_period: int
) -> tuple[Field, ...]:
    """The window, and which layers slide it where
    that is not what llama.cpp takes for granted.

    That is every layer but each `usual_period`-th. Nothing where no layer slides.
    """
    slides = _sliding_layers(config, num_layers, usual_period)
    if not any(slides):
        return ()
    window = u32(f"{name}.attention.sliding_window", config.integer("sliding_window"))
    if slides == _every_but(usual_period, num_layers):
        return (window,)
    return (window, boolean_array(f"{name}.attention.sliding_window_pattern", slides))


def _sliding_layers(config: Config, num_layers: int, usual_period: int) -> list[bool]:
    layer_types = config.values.get("layer_types")
    if layer_types is None:
        return _every_but(config.integer("sliding_window_pattern", usual_period), num_layers)
    if not isinstance(layer_types, list) or len(layer_types) != num_layers:
        raise DamagedCheckpoint(
            f"{config.path} has layer_types that are not a list of {num_layers} names."
        )
    unknown = set(map(str, layer_types)) - {"sliding_attention", "full_attention"}
    if unknown:
        raise UnsupportedModel(f"{config.path} has the unsupported layer type {min(unknown)!r}.")
    return [kind == "sliding_attention" for kind in layer_types]


def _every_but(period: int, num_layers: int) -> list[bool]:
    return [(index + 1) % period != 0 for index in range(num_layers)]
