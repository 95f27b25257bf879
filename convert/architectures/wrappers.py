"""Names that programs put around a model's tensors when they save it while it is wrapped.

Knows no model family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.safetensors_file import StoredTensor

# torch.compile, DataParallel, DeepSpeed, FSDP and activation checkpointing wrap a whole
# model, or modules inside it
_INSIDE = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|module|_forward_module|_fsdp_wrapped_module"
    r"|_checkpoint_wrapped_module)\."
)
# Of the whole model: peft, sentence-transformers, and what lies around the writing part
# of a model that sees.
_AROUND = re.compile(
    r"^(?:base_model\.model|(?:0\.)?auto_model"
    r"|(?=model\.(?:language|text)_model\.)model|model(?=\.model\.)"
    r"|language_model(?=\.(?:model|lm_head)\.)|thinker(?=\.(?:model|lm_head)\.))\."
)
_TEXT_MODEL = re.compile(r"^(?:language|text)_model\.")
# peft's names for what it puts beside and around the weights that it adapts
_ADAPTED = re.compile(
    r"\.(?:base_layer|original_module|modules_to_save|lora_[A-Za-z_]+|ia3_l|hada_w\w+|lokr_w\w+)\b"
)


def unwrapped(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """`stored` by the names that the model itself gives its tensors.

    Raises `UnsupportedModel` for a model with an adapter that was not merged into it,
    `DamagedCheckpoint` where two tensors come to one name.
    """
    adapted = next((name for name in stored if _ADAPTED.search(name)), None)
    if adapted is not None:
        raise UnsupportedModel(
            f"The checkpoint holds an adapter that was not merged into its model ({adapted}). "
            "Merge it (peft: merge_and_unload, then save_pretrained) and convert the result."
        )
    plain: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        own = own_name(name)
        if own in plain:
            raise DamagedCheckpoint(
                f"The checkpoint contains {own} twice, as {plain[own].name} and as {name}."
            )
        plain[own] = tensor
    return plain


def own_name(name: str) -> str:
    """What the model itself calls a tensor or a module of this name."""
    name = _INSIDE.sub("", name)
    while match := _AROUND.match(name):
        name = name[match.end() :]
    return _TEXT_MODEL.sub("model.", name)
