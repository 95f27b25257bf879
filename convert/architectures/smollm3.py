"""SmolLM3: the llama graph with every fourth layer left unrotated.

Knows no tokenizers.
"""

from __future__ import annotations

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    norm_rules,
    outer_rules,
)
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.config import Config
from convert.errors import UnsupportedModel

UNROTATED_PERIOD = 4  # in llama.cpp's smollm3.cpp

DECODER = Decoder(
    name="smollm3",
    fixed={"attention_bias": False, "mlp_bias": False},
    defaults={"rope_theta": 2000000.0},
)

RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(rotated=Rows.INTERLEAVE_HEADS),
    *feed_forward_rules(),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = DECODER.read(config, tensor_names)
    computed = [int((index + 1) % UNROTATED_PERIOD != 0) for index in range(hyper.num_layers)]
    wanted = config.values.get("no_rope_layers")
    if wanted is None:
        period = config.integer("no_rope_layer_interval", UNROTATED_PERIOD)
        wanted = [int((index + 1) % period != 0) for index in range(hyper.num_layers)]
    if wanted != computed:
        raise UnsupportedModel(
            f"{config.path} has no_rope_layers = {wanted}; llama.cpp leaves every fourth layer "
            f"unrotated: {computed}."
        )
    return hyper


SMOLLM3 = Family(
    name="smollm3",
    models="SmolLM3",
    architectures=("SmolLM3ForCausalLM",),
    model_types=("smollm3",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
