"""Writes down how transformers saves models that see or hear, with the weights of golden text
models inside, and what was computed with them: the same as with the text model alone.

    python tests/convert/golden/make_wrapped.py [NAME ...]

For each, wrapped/NAME.json has `text` (the golden checkpoint inside) with the `changes` of its
config and the tensors that it is `without`, `config` as it was saved,
and `tensors`: the name of each tensor, with its name in that checkpoint, or null for what
sees or hears; and `difference`, the largest of the log-probabilities'. Run make.py before.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

GOLDEN = Path(__file__).parent
_CLIP = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 14}


@dataclass(frozen=True)
class Wrapped:
    """A `model` of transformers around the golden checkpoint `text`; `text_type` is what it
    calls the text model.
    """

    model: str
    text: str
    text_type: str | None = None
    sections: tuple[int, ...] = ()  # of the rotation, where positions have several axes
    changes: dict[str, Any] = field(default_factory=dict)  # of the text model's config
    without: tuple[str, ...] = ()  # parts of names of tensors that it then has not
    config: dict[str, Any] = field(default_factory=dict)


CASES = {
    "llava": Wrapped(
        "LlavaForConditionalGeneration",
        "llama2",
        config={
            "vision_config": {"model_type": "clip_vision_model", **_CLIP, "projection_dim": 16}
        },
    ),
    "llava_next_granite": Wrapped(
        "LlavaNextForConditionalGeneration",
        "granite",
        # transformers 5 forgets the text model's scale of logits here
        changes={"logits_scaling": 1.0},
        config={"vision_config": {"model_type": "siglip_vision_model", **_CLIP}},
    ),
    "mistral3": Wrapped(
        "Mistral3ForConditionalGeneration",
        "mistral",
        config={"vision_config": {"model_type": "pixtral", **_CLIP, "head_dim": 8}},
    ),
    "mistral3_ministral3": Wrapped(
        "Mistral3ForConditionalGeneration",
        "ministral3",
        config={"vision_config": {"model_type": "pixtral", **_CLIP, "head_dim": 8}},
    ),
    "smolvlm": Wrapped(
        "SmolVLMForConditionalGeneration",
        "llama3",
        config={"vision_config": {**_CLIP}, "scale_factor": 1, "image_token_id": 3},
    ),
    "qwen2_vl": Wrapped(
        "Qwen2VLForConditionalGeneration",
        "qwen2",
        "qwen2_vl_text",
        (2, 3, 3),
        config={"vision_config": {"depth": 1, "embed_dim": 16, "hidden_size": 64, "num_heads": 2}},
    ),
    "qwen2_5_vl": Wrapped(
        "Qwen2_5_VLForConditionalGeneration",
        "qwen2",
        "qwen2_5_vl_text",
        (2, 3, 3),
        config={"vision_config": {**_QWEN, "out_hidden_size": 64, "fullatt_block_indexes": [0]}},
    ),
    "qwen3_vl": Wrapped(
        "Qwen3VLForConditionalGeneration",
        "qwen3",
        "qwen3_vl_text",
        (6, 5, 5),
        config={"vision_config": {**_QWEN, "out_hidden_size": 64, "deepstack_visual_indexes": [0]}},
    ),
    "qwen3_vl_moe": Wrapped(
        "Qwen3VLMoeForConditionalGeneration",
        "qwen3_moe",
        "qwen3_vl_moe_text",
        (6, 5, 5),
        config={"vision_config": {**_QWEN, "out_hidden_size": 64, "deepstack_visual_indexes": [0]}},
    ),
    "internvl": Wrapped(
        "InternVLForConditionalGeneration",
        "qwen2",
        config={"vision_config": {**_CLIP, "image_size": [28, 28], "patch_size": [14, 14]}},
    ),
    "glm4v": Wrapped(
        "Glm4vForConditionalGeneration",
        "glm4",
        "glm4v_text",
        (1, 1, 2),
        config={
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 64,
                "image_size": 28,
            }
        },
    ),
    "glm4v_moe": Wrapped(
        "Glm4vMoeForConditionalGeneration",
        "glm4_moe",
        "glm4v_moe_text",
        (2, 3, 3),
        changes={"use_qk_norm": False},
        without=("self_attn.q_norm", "self_attn.k_norm"),
        config={
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 64,
                "image_size": 28,
            }
        },
    ),
    "cohere2_vision": Wrapped(
        "Cohere2VisionForConditionalGeneration",
        "cohere2",
        # as above
        changes={"logit_scale": 1.0},
        config={"vision_config": {"model_type": "siglip_vision_model", **_CLIP}},
    ),
    "lfm2_vl": Wrapped(
        "Lfm2VlForConditionalGeneration",
        "lfm2",
        config={
            "vision_config": {"model_type": "siglip2_vision_model", **_CLIP, "num_patches": 4},
            "projector_hidden_size": 16,
        },
    ),
    "voxtral": Wrapped(
        "VoxtralForConditionalGeneration",
        "llama2",
        config={
            "audio_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "max_source_positions": 8,
                "num_mel_bins": 8,
            }
        },
    ),
    "idefics3": Wrapped(
        "Idefics3ForConditionalGeneration",
        "llama3",
        config={"vision_config": {**_CLIP}, "scale_factor": 1, "image_token_id": 3},
    ),
    "llava_onevision": Wrapped(
        "LlavaOnevisionForConditionalGeneration",
        "qwen2",
        config={"vision_config": {"model_type": "siglip_vision_model", **_CLIP}},
    ),
    "aya_vision": Wrapped(
        "AyaVisionForConditionalGeneration",
        "cohere2",
        changes={"logit_scale": 1.0},
        config={"vision_config": {"model_type": "siglip_vision_model", **_CLIP}},
    ),
    "qwen2_audio": Wrapped(
        "Qwen2AudioForConditionalGeneration",
        "mistral",
        config={
            "audio_config": {
                "model_type": "qwen2_audio_encoder",
                "d_model": 16,
                "encoder_ffn_dim": 16,
                "encoder_layers": 1,
                "encoder_attention_heads": 2,
                "max_source_positions": 8,
                "num_mel_bins": 8,
            }
        },
    ),
    "llama4": Wrapped(
        "Llama4ForConditionalGeneration",
        "llama4",
        "llama4_text",
        config={
            "vision_config": {
                **_CLIP,
                "vision_output_dim": 16,
                "projector_input_dim": 16,
                "projector_output_dim": 16,
            }
        },
    ),
    "gemma4": Wrapped(
        "Gemma4ForConditionalGeneration",
        "gemma4_small",
        "gemma4_text",
        config={
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 8,
            },
            "audio_config": None,
        },
    ),
    "glm46v": Wrapped(
        "Glm46VForConditionalGeneration",
        "glm4",
        "glm4v_text",
        (1, 1, 2),
        config={
            "vision_config": {
                "model_type": "glm4v_vision",
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 64,
                "image_size": 28,
            }
        },
    ),
    "gemma3": Wrapped(
        "Gemma3ForConditionalGeneration",
        "gemma3",
        "gemma3_text",
        config={"vision_config": _CLIP, "mm_tokens_per_image": 1},
    ),
}


def golden(name: str) -> Path:
    found = GOLDEN / name
    return found if found.exists() else GOLDEN / "newer" / name


@torch.no_grad()
def make(name: str, case: Wrapped) -> None:
    source = golden(case.text)
    text_config = AutoConfig.from_pretrained(source, **case.changes)
    text = AutoModelForCausalLM.from_pretrained(
        source, config=text_config, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    described = text_config.to_dict()
    described["model_type"] = case.text_type or described["model_type"]
    if case.sections:
        described["rope_parameters"]["mrope_section"] = list(case.sections)
    described.pop("architectures", None)
    described |= {"pad_token_id": 0, "bos_token_id": None}  # some classes need a padding
    model_class = getattr(transformers, case.model)
    tied = bool(described.get("tie_word_embeddings"))
    config = model_class.config_class(
        text_config=described, tie_word_embeddings=tied, **case.config
    )
    torch.manual_seed(0)
    model = model_class._from_config(config, attn_implementation="eager").float().eval()
    if hasattr(model, "language_model"):
        model.language_model.load_state_dict(text.state_dict())
    else:
        inner = getattr(model.model, "language_model", None) or model.model.text_model
        inner.load_state_dict(text.model.state_dict())
        if not tied:
            model.lm_head.load_state_dict(text.lm_head.state_dict())
    tokens = torch.from_numpy(np.load(source / "reference.npz")["tokens"].astype(np.int64))[None]
    actual, expected = (
        torch.log_softmax(either(input_ids=tokens).logits[0].double(), dim=-1).numpy()
        for either in (model, text)
    )
    difference = float(np.abs(actual - expected).max())
    assert difference < 1e-4, f"{name}: {difference}"
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = load_file(Path(folder) / "model.safetensors")
        config_saved = json.loads((Path(folder) / "config.json").read_text())
    for part in (config_saved, config_saved["text_config"]):
        part.pop("pad_token_id", None)
    own = load_file(source / "model.safetensors")
    record = {
        "text": case.text,
        "changes": case.changes,
        "without": case.without,
        "difference": difference,
        "config": config_saved,
        "tensors": {key: _origin(key, tensor, own) for key, tensor in sorted(saved.items())},
    }
    (GOLDEN / "wrapped").mkdir(exist_ok=True)
    (GOLDEN / "wrapped" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(name, difference)


def _origin(name: str, tensor: torch.Tensor, own: dict[str, torch.Tensor]) -> str | None:
    """The tensor of the text model with the same numbers; for experts in one tensor, the name
    of their block.
    """
    same = [
        key
        for key, values in own.items()
        if values.shape == tensor.shape and torch.equal(values.float(), tensor.float())
    ]
    assert len(same) <= 1, (name, same)
    block, found, _ = name.partition(".experts.")
    if found and not same:
        return f"{block.replace('model.language_model', 'model')}.experts"
    return same[0] if same else None


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        make(name, CASES[name])
