"""GLM 4.5, 4.6 and Air: the first layers dense, the others a mixture of experts.

Knows no tokenizers.
"""

from __future__ import annotations

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    bias_rules,
    feed_forward_rules,
    layer,
    outer_rules,
    qk_norm_rules,
    qkv_bias_rules,
    with_switches,
)
from convert.architectures.experts import routed_expert_rules
from convert.architectures.family import Family, Hyperparameters
from convert.architectures.mixtures.routing import DENSE, MOE, needing, with_routing
from convert.config import Config

DECODER = Decoder(
    name="glm4moe",
    rope_types=("default", "linear", "yarn"),
    rotates_part=True,
    fixed={"n_group": 1, "topk_group": 1},
    defaults={"partial_rotary_factor": 0.5},
)

RULES = (
    *outer_rules(),
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
    layer("post_attention_norm.weight", "post_attention_layernorm.weight", ("hidden",)),
    *attention_rules(),
    *qkv_bias_rules(needs="attention_bias"),
    *needing("use_qk_norm", qk_norm_rules()),
    *needing(DENSE, feed_forward_rules()),
    *routed_expert_rules(MOE),
    *bias_rules(("exp_probs_b", "mlp.gate.e_score_correction", "experts"), needs=MOE),
)
SPELLINGS_OF_BIASES = ((r"\.e_score_correction_bias$", ".e_score_correction.bias"),)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = DECODER.read(config, tensor_names)
    hyper = with_switches(hyper, config, {"attention_bias": False, "use_qk_norm": False})
    return with_routing(DECODER.name, hyper, config, default_dense=1)


GLM4_MOE = Family(
    name="glm4moe",
    models="GLM 4.5, 4.6 and Air",
    architectures=("Glm4MoeForCausalLM",),
    model_types=("glm4_moe",),
    rules=RULES,
    read_config=read_config,
    spellings=(*SPELLINGS_OF_BIASES, *SPELLINGS),
)
