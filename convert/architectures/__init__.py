"""The model families that can be converted. A family is one file here and one line in `FAMILIES`."""

from __future__ import annotations

from convert.architectures.family import Family
from convert.architectures.llama import LLAMA
from convert.errors import UnsupportedModel

FAMILIES: tuple[Family, ...] = (LLAMA,)


def find_family(architecture: str) -> Family:
    """The family that reads `architecture`, a name from config.json. Raises `UnsupportedModel` with the known ones."""
    for family in FAMILIES:
        if architecture in family.architectures:
            return family
    supported = ", ".join(name for family in FAMILIES for name in family.architectures)
    raise UnsupportedModel(
        f"The architecture {architecture} cannot be converted yet; supported: {supported}. "
        "For many other models a ready-made GGUF can be downloaded from https://huggingface.co/models?library=gguf."
    )
