"""Ways of quantizing a checkpoint that cannot be read, and why not.

Knows no tensors but by their names. Where a weight is rotated before it is rounded, or laid out
for one kind of GPU, the numbers of the original matrix are not in the file as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from convert.config import Config
from convert.errors import UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_ROTATED = "its weights are rotated before they are rounded, and inputs are rotated while it runs"
_CODEBOOKS = "its weights are entries of learned tables with outliers and permutations beside them"
_FOR_A_GPU = "its numbers lie in an order that belongs to one kind of GPU"

# by quant_method: what people call it, and the reason
REFUSED: Mapping[str, tuple[str, str]] = {
    "vptq": ("VPTQ", _CODEBOOKS),
    "quip": ("QuIP", _ROTATED),
    "quip_sharp": ("QuIP#", _ROTATED),
    "quipsharp": ("QuIP#", _ROTATED),
    "qtip": ("QTIP", _ROTATED),
    "exl2": ("EXL2 (ExLlamaV2)", "every row of a matrix may have a width of its own, mixed by use"),
    "exl3": ("EXL3 (ExLlamaV3)", _ROTATED),
    "higgs": ("HIGGS", _ROTATED),
    "fp_quant": ("FP-Quant", _ROTATED),
    "spqr": ("SpQR", "outliers are kept apart from its weights, whose scales are quantized too"),
    "sinq": ("SINQ", "its settings are stored as a pickle, which may be a program"),
    "eetq": ("EETQ", _FOR_A_GPU),
    "marlin": ("Marlin", _FOR_A_GPU),
    "fouroversix": ("Four Over Six", _FOR_A_GPU),
    "nvfp4": ("NVFP4 by transformers itself", _FOR_A_GPU),
    "quanto": ("Quanto", "how its numbers are packed is not in the file"),
    "metal": ("transformers' Metal kernels", "it is not known here"),
    "gemma": ("Gemma's own int2, int4 and int8", "inputs and outputs are rounded to their scales"),
    "deepspeedfp": ("DeepSpeed FP", _FOR_A_GPU),
    "tpu_int8": ("vLLM's int8 for TPUs", "such files are not published"),
}
_WAY_OUT = "Use the original, unquantized checkpoint of this model, or a ready-made GGUF."


# What tells of packed weights that only a quantization_config says how to read: parts of one
# module, or endings of their names, by who writes them so.
_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("compressed-tensors", ("weight_packed", "weight_scale")),
    ("compressed-tensors, Quark or NVIDIA's Model Optimizer", ("weight", "weight_scale")),
    ("GPTQ or AWQ", ("qweight", "qzeros", "scales")),
    ("HQQ", ("W_q",)),
    ("AQLM", ("codes", "codebooks")),
    ("bitsandbytes", ("weight", "weight.absmax")),
    ("bitsandbytes", ("weight", "SCB")),
    ("MXFP4", ("gate_up_proj_blocks", "gate_up_proj_scales")),
)


def check_is_described(modules: Mapping[str, Mapping[str, StoredTensor]]) -> None:
    """Raises `UnsupportedModel` for packed weights of a checkpoint whose config.json has lost
    what said how to read them.
    """
    for module, parts in modules.items():
        for writer, names in _MARKS:
            if all(name in parts for name in names) and parts[names[0]].stored_type.may_be_packed:
                raise UnsupportedModel(
                    f"{parts[names[0]].file.path} has {module}.{names[0]} as {writer} "
                    f"{'write' if ' or ' in writer else 'writes'} quantized weights, but "
                    "config.json has no quantization_config, which says how to read them. Take "
                    "config.json from the original repository of this checkpoint."
                )


def check_method(method: str, config: Config) -> None:
    """Raises `UnsupportedModel` with the reason for a `quant_method` that cannot be read."""
    if method in REFUSED:
        title, why = REFUSED[method]
        raise UnsupportedModel(
            f"{config.path} says that the weights are quantized by {title} (quant_method: "
            f"{method}), which cannot be read: {why}. {_WAY_OUT}"
        )


def check_is_no_smoothquant(modules: Iterable[Mapping[str, StoredTensor]]) -> None:
    """Raises `UnsupportedModel` for the int8 modules of SmoothQuant's own software, which no
    config tells of: `a`, and mostly `b`, beside a weight (torch-int's nn/linear.py) or
    `dequant_scale` (AutoSmoothQuant's).
    """
    for parts in modules:
        weight = parts.get("weight")
        if weight is None or weight.stored_type is not StoredType.I8:
            continue
        marks = [name for name in ("a", "dequant_scale") if name in parts]
        if marks:
            raise UnsupportedModel(
                f"{weight.file.path} has {weight.name} as an int8 module of SmoothQuant's own "
                f"software ({marks[0]}), which cannot be read: the scales of its inputs are "
                f"multiplied into those of its weights. {_WAY_OUT} What compressed-tensors or "
                "NVIDIA's Model Optimizer write of SmoothQuant can be read."
            )
