"""Models that see or hear as well as write: where their checkpoints have the part that
writes, and which text model that is.

Knows no tensors of text models. How they are wrapped is from transformers'
configuration_*.py and conversion_mapping.py. Positions of several axes (M-RoPE) are one
number on a text, so that the plain text models of llama.cpp compute these parts exactly; see
docs/decisions/0061-text-parts-are-text-models.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from convert.architectures.family import Family, Hyperparameters
from convert.config import Config
from convert.errors import UnsupportedModel

NOTE = "Only the part that writes is in the file; what sees or hears was left out."

# The modules beside the part that writes, and whose parts they may be.
_BESIDE = (
    "vision_tower.*",
    "vision_model.*",
    "visual.*",
    "audio_tower.*",
    "embed_vision.*",
    "embed_audio.*",
    "multi_modal_projector.*",
    "connector.*",
    "mlp1.*",
    "image_newline",
    "view_separator",
    "talker.*",
    "token2wav.*",
    "code2wav.*",
)
LEFT_OUT = tuple(map("".join, product(("", "model.", "thinker."), _BESIDE)))


@dataclass(frozen=True, kw_only=True)
class Wrapper:
    """Model classes that have a part that writes."""

    models: str  # as people know them
    architectures: tuple[str, ...]
    model_types: tuple[str, ...]  # of the whole, for those without architectures
    usual: str  # the model type of that part where config.json does not say
    # where config.json describes it: a section in a section; what is not there is skipped
    sections: tuple[str, ...] = ("text_config",)
    # what transformers takes for keys that are left out, where it is not what the text
    # model's own class takes
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def text(self, config: Config) -> Config:
        """What `config` says of the part that writes, as a text model's own would."""
        inner = config
        for section in self.sections:
            if section in inner:
                inner = inner.section(section)
        model_type = inner.values.get("model_type")
        if inner is config or not isinstance(model_type, str):
            model_type = self.usual
        plain = _SAME.get(model_type, model_type)
        values = {key: _without_axes(key, value) for key, value in inner.values.items()}
        values |= {"architectures": None, "model_type": plain}
        values.pop("tie_word_embeddings", None)
        defaults = {**_DEFAULTS.get(plain, {}), **self.defaults, **_tied(config, inner)}
        if defaults.get("tie_word_embeddings", False) is None:
            del defaults["tie_word_embeddings"]
        # null stays: that of a window means that there is none
        return Config(inner.path, values).with_defaults(defaults)


def _tied(outer: Config, inner: Config) -> dict[str, Any]:
    """Whether embedding and output are one matrix; None where the two disagree, so that what
    the checkpoint holds decides.
    """
    said = {config.values.get("tie_word_embeddings") for config in (outer, inner)} - {None}
    if not said:
        return {}
    return {"tie_word_embeddings": said.pop() if len(said) == 1 else None}


def _without_axes(key: str, value: Any) -> Any:
    """Settings of a rotation whose positions have several axes, as those of one with one."""
    if key not in ("rope_scaling", "rope_parameters") or not isinstance(value, dict):
        return value
    return {name: "default" if item == "mrope" else item for name, item in value.items()}


# Text models by the names that they have inside others.
_SAME = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen2_5_omni_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_omni_moe_text": "qwen3_moe",
    "glm4v_text": "glm4",
    "glm46v_text": "glm4",
    "glm4v_moe_text": "glm4_moe",
}
# What configs of such models leave out: the numbers of transformers' text classes. A text
# model of its own has all of them.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
    "mistral": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
}

WRAPPERS: tuple[Wrapper, ...] = (
    Wrapper(
        models="LLaVA 1.5 and 1.6, Pixtral, Granite Vision",
        architectures=("LlavaForConditionalGeneration", "LlavaNextForConditionalGeneration"),
        model_types=("llava", "llava_next"),
        usual="llama",
    ),
    Wrapper(
        models="LLaVA-OneVision",
        architectures=("LlavaOnevisionForConditionalGeneration",),
        model_types=("llava_onevision",),
        usual="qwen2",
    ),
    Wrapper(
        models="Mistral Small 3.1 and 3.2, Ministral 3, Devstral Small 2",
        architectures=("Mistral3ForConditionalGeneration",),
        model_types=("mistral3",),
        usual="mistral",
    ),
    Wrapper(
        models="Idefics 3, SmolVLM",
        architectures=("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration"),
        model_types=("idefics3", "smolvlm"),
        usual="llama",
    ),
    Wrapper(
        models="Qwen2-VL, Qwen2.5-VL",
        architectures=("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
        model_types=("qwen2_vl", "qwen2_5_vl"),
        usual="qwen2",
        defaults={"rope_theta": 1000000.0},
    ),
    Wrapper(
        models="Qwen2.5-Omni",
        architectures=("Qwen2_5OmniModel", "Qwen2_5OmniForConditionalGeneration"),
        model_types=("qwen2_5_omni",),
        usual="qwen2",
        sections=("thinker_config", "text_config"),
        defaults={"rope_theta": 1000000.0},
    ),
    Wrapper(
        models="Qwen3-VL",
        architectures=("Qwen3VLForConditionalGeneration",),
        model_types=("qwen3_vl",),
        usual="qwen3",
        defaults={"rope_theta": 500000.0},
    ),
    Wrapper(
        models="Qwen3-VL with experts",
        architectures=("Qwen3VLMoeForConditionalGeneration",),
        model_types=("qwen3_vl_moe",),
        usual="qwen3_vl_moe_text",
    ),
    Wrapper(
        models="InternVL",
        architectures=("InternVLForConditionalGeneration", "InternVLChatModel"),
        model_types=("internvl", "internvl_chat"),
        usual="qwen2",
        sections=("llm_config", "text_config"),
    ),
    Wrapper(
        models="GLM-4.1V, GLM-4.6V-Flash",
        architectures=("Glm4vForConditionalGeneration", "Glm46VForConditionalGeneration"),
        model_types=("glm4v", "glm46v"),
        usual="glm4",
    ),
    Wrapper(
        models="GLM-4.5V, GLM-4.6V",
        architectures=("Glm4vMoeForConditionalGeneration",),
        model_types=("glm4v_moe",),
        usual="glm4_moe",
    ),
    Wrapper(
        models="Aya Vision, Command A Vision",
        architectures=(
            "AyaVisionForConditionalGeneration",
            "Cohere2VisionForConditionalGeneration",
        ),
        model_types=("aya_vision", "cohere2_vision"),
        usual="cohere2",
    ),
    Wrapper(
        models="LFM2-VL",
        architectures=("Lfm2VlForConditionalGeneration",),
        model_types=("lfm2_vl",),
        usual="lfm2",
    ),
    Wrapper(
        models="Voxtral",
        architectures=("VoxtralForConditionalGeneration",),
        model_types=("voxtral",),
        usual="llama",
        defaults={
            "vocab_size": 131072,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 30,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100000000.0,
        },
    ),
    Wrapper(
        models="Qwen2-Audio",
        architectures=("Qwen2AudioForConditionalGeneration",),
        model_types=("qwen2_audio",),
        usual="qwen2",
    ),
    Wrapper(
        models="Kimi-VL",
        architectures=("KimiVLForConditionalGeneration",),
        model_types=("kimi_vl",),
        usual="deepseek_v3",
    ),
    Wrapper(
        models="Llama 4 Scout and Maverick",
        architectures=("Llama4ForConditionalGeneration",),
        model_types=("llama4",),
        usual="llama4_text",
    ),
    Wrapper(
        models="Gemma 3",
        architectures=("Gemma3ForConditionalGeneration",),
        model_types=("gemma3",),
        usual="gemma3_text",
    ),
    Wrapper(
        models="Gemma 3n",
        architectures=("Gemma3nForConditionalGeneration",),
        model_types=("gemma3n",),
        usual="gemma3n_text",
    ),
    Wrapper(
        models="Gemma 4",
        architectures=("Gemma4ForConditionalGeneration",),
        model_types=("gemma4",),
        usual="gemma4_text",
    ),
    Wrapper(
        models="Qwen 3.5 and 3.6",
        architectures=("Qwen3_5ForConditionalGeneration",),
        model_types=("qwen3_5",),
        usual="qwen3_5_text",
    ),
    Wrapper(
        models="Qwen 3.5 and 3.6 with experts",
        architectures=("Qwen3_5MoeForConditionalGeneration",),
        model_types=("qwen3_5_moe",),
        usual="qwen3_5_moe_text",
    ),
)


def wrapper_of(config: Config) -> Wrapper | None:
    """How the model of `config` is wrapped, by the first class that is known here; by
    `model_type` where no class is named. None for a text model.
    """
    for architecture in config.architectures:
        for wrapper in WRAPPERS:
            if architecture in wrapper.architectures:
                return wrapper
    model_type = config.values.get("model_type")
    for wrapper in WRAPPERS:
        if not config.architectures and model_type in wrapper.model_types:
            return wrapper
    return None


def with_text(config: Config) -> Config:
    """`config` with what it says of the part that writes in the place of what it says of all."""
    wrapper = wrapper_of(config)
    if wrapper is None:
        return config
    said = {key: value for key, value in wrapper.text(config).values.items() if value is not None}
    return Config(config.path, {**config.values, **said})


def inside(wrapper: Wrapper, config: Config, by_type: Callable[[Config], Family | None]) -> Family:
    """The family of the part that writes, which reads the whole model's `config`.

    Raises `UnsupportedModel` where `by_type` finds none.
    """
    text = wrapper.text(config)
    family = by_type(text)
    if family is None:
        raise UnsupportedModel(
            f"{text.path} describes a text model of the type {text.values['model_type']}, which "
            "cannot be converted yet."
        )

    def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
        hyper = family.read_config(wrapper.text(config), tensor_names)
        return replace(hyper, unused=(*hyper.unused, *LEFT_OUT), notes=(*hyper.notes, NOTE))

    return replace(family, sections=wrapper.sections, read_config=read_config)
