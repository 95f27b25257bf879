"""Which layers slide a window over the text, as llama.cpp wants it said.

Knows no tensors and no family.
"""

from __future__ import annotations

from collections.abc import Sequence

from convert.architectures.layer_types import layer_types
from convert.config import Config
from convert.gguf.header import Field, boolean_array, u32

SLIDING, FULL = "sliding_attention", "full_attention"


def window_fields(
    name: str, config: Config, num_layers: int, usual_period: int
) -> tuple[Field, ...]:
    """The window, and which layers slide it where
    that is not what llama.cpp takes for granted.

    That is every layer but each `usual_period`-th. Nothing where no layer slides.
    """
    slides = [
        kind == SLIDING for kind in window_kinds(config, num_layers, usual_period=usual_period)
    ]
    if not any(slides):
        return ()
    window = u32(f"{name}.attention.sliding_window", config.integer("sliding_window"))
    if slides == [kind == SLIDING for kind in _every_but(usual_period, num_layers)]:
        return (window,)
    return (window, boolean_array(f"{name}.attention.sliding_window_pattern", slides))


def window_kinds(config: Config, num_layers: int, usual_period: int) -> Sequence[str]:
    """`SLIDING` or `FULL` for each layer. Raises as `layer_types` does."""
    period = usual_period
    if config.values.get("layer_types") is None:
        period = config.integer("sliding_window_pattern", usual_period)
    return layer_types(config, num_layers, (SLIDING, FULL), _every_but(period, num_layers))


def _every_but(period: int, num_layers: int) -> list[str]:
    return [FULL if (index + 1) % period == 0 else SLIDING for index in range(num_layers)]
