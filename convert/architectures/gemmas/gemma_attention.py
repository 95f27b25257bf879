"""How the later Gemmas scale attention. Knows no tensors."""

from __future__ import annotations

from convert.architectures.family import Hyperparameters
from convert.config import Config
from convert.errors import UnsupportedModel


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
