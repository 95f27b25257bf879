"""The model families that can be converted.

A family is one file here and one line in `FAMILIES`.

The file states the tensors as rules and, as a `Decoder`, what llama.cpp's graph of the
family computes; a case in tests/convert/golden/make.py then shows that both are right.
"""

from __future__ import annotations

from convert.architectures.dense.granite import GRANITE, GRANITE_MOE, MINICPM
from convert.architectures.dense.layer_norm import (
    COHERE2,
    COMMAND_R,
    GPT2,
    GPT_NEOX,
    STABLELM,
    STARCODER2,
)
from convert.architectures.dense.ministral3 import MINISTRAL3
from convert.architectures.dense.plain import ERNIE4_5, GLM4, HUNYUAN, SEED_OSS
from convert.architectures.dense.post_norm import EXAONE4, OLMO2, OLMO3
from convert.architectures.encoders.bert import BERT
from convert.architectures.encoders.jina_bert import JINA_BERT
from convert.architectures.encoders.modern_bert import MODERN_BERT
from convert.architectures.encoders.nomic_bert import NOMIC_BERT
from convert.architectures.encoders.xlm_roberta import XLM_ROBERTA, XLM_ROBERTA_RANKER
from convert.architectures.family import Family
from convert.architectures.gemmas.gemma import GEMMA
from convert.architectures.gemmas.gemma2 import GEMMA2
from convert.architectures.gemmas.gemma3 import EMBEDDING_GEMMA, GEMMA3
from convert.architectures.gemmas.gemma3n import GEMMA3N
from convert.architectures.gemmas.gemma4 import GEMMA4
from convert.architectures.hybrid.falcon_h1 import FALCON_H1
from convert.architectures.hybrid.granite_hybrid import GRANITE_ATTENTION, GRANITE_HYBRID
from convert.architectures.hybrid.lfm2 import LFM2, LFM2_MOE
from convert.architectures.hybrid.mamba import MAMBA, MAMBA2
from convert.architectures.hybrid.qwen3_next import QWEN3_NEXT
from convert.architectures.hybrid.qwen35 import QWEN35, QWEN35_MOE
from convert.architectures.hybrid.rwkv7 import RWKV7
from convert.architectures.llama import LLAMA
from convert.architectures.mistral import MISTRAL
from convert.architectures.mixtures.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from convert.architectures.mixtures.ernie4_5_moe import ERNIE4_5_MOE
from convert.architectures.mixtures.glm4_moe import GLM4_MOE
from convert.architectures.mixtures.gpt_oss import GPT_OSS
from convert.architectures.mixtures.llama4 import LLAMA4
from convert.architectures.mixtures.mixtral import MIXTRAL
from convert.architectures.mixtures.qwen2_moe import QWEN2_MOE
from convert.architectures.mixtures.qwen3_moe import QWEN3_MOE, QWEN3_VL_MOE
from convert.architectures.phi3 import PHI3
from convert.architectures.qwen2 import QWEN2
from convert.architectures.qwen3 import QWEN3
from convert.architectures.refused import REFUSED
from convert.architectures.seeing import inside, wrapper_of
from convert.architectures.smollm3 import SMOLLM3
from convert.config import Config
from convert.errors import UnsupportedModel

FAMILIES: tuple[Family, ...] = (
    LLAMA,
    LLAMA4,
    MISTRAL,
    MINISTRAL3,
    MIXTRAL,
    QWEN2,
    QWEN2_MOE,
    QWEN3,
    QWEN3_MOE,
    QWEN3_VL_MOE,
    QWEN3_NEXT,
    QWEN35,
    QWEN35_MOE,
    GEMMA,
    GEMMA2,
    GEMMA3,
    EMBEDDING_GEMMA,
    GEMMA3N,
    GEMMA4,
    PHI3,
    SMOLLM3,
    GPT_OSS,
    GRANITE,
    GRANITE_MOE,
    GRANITE_HYBRID,
    GRANITE_ATTENTION,
    MINICPM,
    LFM2,
    LFM2_MOE,
    OLMO2,
    OLMO3,
    EXAONE4,
    GLM4,
    GLM4_MOE,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    SEED_OSS,
    ERNIE4_5,
    ERNIE4_5_MOE,
    HUNYUAN,
    COMMAND_R,
    COHERE2,
    STABLELM,
    STARCODER2,
    GPT2,
    GPT_NEOX,
    FALCON_H1,
    MAMBA,
    MAMBA2,
    RWKV7,
    BERT,
    NOMIC_BERT,
    JINA_BERT,
    MODERN_BERT,
    XLM_ROBERTA,
    XLM_ROBERTA_RANKER,
)


def find_family(config: Config) -> Family:
    """The family that reads the model of `config`, or of what sees as well the part that
    writes: by the first model class known here, or by `model_type` where no class is named.

    Raises `UnsupportedModel` for one that is not known.
    """
    wrapper = wrapper_of(config)
    if wrapper is not None:
        return inside(wrapper, config, _of_type)
    return _chosen(_named(config), config)


def _chosen(family: Family, config: Config) -> Family:
    return family if family.variant is None else family.variant(config) or family


def _of_type(config: Config) -> Family | None:
    model_type = config.values.get("model_type")
    found = (family for family in FAMILIES if model_type in family.model_types)
    return next((_chosen(family, config) for family in found), None)


def _named(config: Config) -> Family:
    for architecture in config.architectures:
        for family in FAMILIES:
            if architecture in (*family.architectures, *family.headless):
                return family
        if architecture in REFUSED:
            raise UnsupportedModel(f"{architecture} cannot be converted: {REFUSED[architecture]}.")
    family_of_type = None if config.architectures else _of_type(config)
    if family_of_type is not None:
        return family_of_type
    model_type = config.values.get("model_type")
    if config.architectures:
        asked = f"The architecture {config.architectures[0]}"
    elif isinstance(model_type, str):
        asked = f"The model type {model_type}"
    else:
        asked = f"{config.path} names no model class in `architectures`, so the model"
    raise UnsupportedModel(
        f"{asked} cannot be converted yet. The table of those that can is in "
        "docs/guide/convert.md (Supported checkpoints). For many other models, ready-made GGUF "
        "files can be downloaded from https://huggingface.co/models?library=gguf."
    )
