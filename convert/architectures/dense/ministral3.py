"""Ministral 3 and Devstral Small 2: the llama graph, whose queries grow with the distance
from the first token.

Knows no tokenizers.

Source: modeling_ministral3.py of transformers; llama.cpp's mistral3.cpp, whose growth
begins anew at each multiple of the context that yarn begins from, too.
"""

from __future__ import annotations

from convert.architectures.decoder import SPELLINGS, Decoder, with_fields
from convert.architectures.family import Family, Hyperparameters
from convert.architectures.mistral import RULES
from convert.architectures.rope import with_default_rope
from convert.config import Config
from convert.errors import UnsupportedModel
from convert.gguf.header import f32

DECODER = Decoder(
    name="mistral3",
    rope_types=("yarn",),
    slides=True,
    # the published configs leave out some of what equals these defaults of transformers
    defaults={
        "vocab_size": 131072,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 34,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
)


# what transformers' class takes where config.json has neither rope_parameters nor rope_scaling
_DEFAULT_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    "llama_4_scaling_beta": 0.1,
}


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = with_default_rope(config, _DEFAULT_ROPE)
    hyper = DECODER.read(config, tensor_names)
    growth = config.rope.values.get("llama_4_scaling_beta")
    if not growth:
        return hyper
    if "original_max_position_embeddings" not in config.rope:
        raise UnsupportedModel(
            f"{config.path} has llama_4_scaling_beta without original_max_position_embeddings, "
            "from where queries grow."
        )
    key = f"{DECODER.name}.attention.temperature_scale"
    return with_fields(hyper, f32(key, config.rope.number("llama_4_scaling_beta")))


MINISTRAL3 = Family(
    name="mistral3",
    models="Ministral 3, Devstral Small 2",
    architectures=("Ministral3ForCausalLM",),
    model_types=("ministral3",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
