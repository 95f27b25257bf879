"""Options of one model: how large, how it is computed. Knows no source and no server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.options import Option

MODEL = "Model and memory"
GPU = "GPU"
MAX_TOKENS = 1 << 24
_ALL_LAYERS = 1 << 20  # more than any model has
SPLIT_MODES = ("layer", "row", "none")
KV_TYPES = ("f16", "q8_0", "q5_1", "q4_0")
_KV_TYPE = f"({'|'.join(KV_TYPES)})"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Part of `ModelSettings`."""

    ctx: Annotated[
        int | None,
        Option(
            help="Longest request, prompt and answer together, in tokens",
            parser=opt.whole_number(64, MAX_TOKENS, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="as far as the model was trained for, within what fits",
        ),
    ] = None
    kv_cells: Annotated[
        int | None,
        Option(
            help="Size of the KV cache that all requests share, in tokens; never less than --ctx",
            parser=opt.whole_number(64, MAX_TOKENS, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="ctx x slots, within what fits",
        ),
    ] = None
    quant: Annotated[
        str | None,
        Option(
            help="Serve this quantization, such as Q4_K_M",
            parser=opt.pattern(
                r"[A-Za-z][A-Za-z0-9_]{1,15}",
                "a type's name such as Q8_0, Q4_K_M or Q2_K",
                upper=True,
            ),
            group=MODEL,
            metavar="TYPE",
            automatic="the best one that fits",
        ),
    ] = None
    kv_type: Annotated[
        str | None,
        Option(
            help="Number format of the KV cache: f16, q8_0, q5_1 or q4_0, or two of them as K/V, "
            "such as q8_0/q4_0",
            parser=opt.pattern(
                f"{_KV_TYPE}(/{_KV_TYPE})?",
                "f16, q8_0, q5_1 or q4_0, or two of them as K/V, such as q8_0/q4_0",
                near=KV_TYPES,
            ),
            group=MODEL,
            metavar="TYPE",
            automatic="f16 where it fits, else q8_0",
        ),
    ] = None
    threads: Annotated[
        int | None,
        Option(
            help="Threads that compute steps of one answer, and everything else unless "
            "--batch-threads says otherwise",
            parser=opt.whole_number(1, 1024),
            group=MODEL,
            metavar="N",
            automatic="as measured here (`appliance tune`), else one for each performance core, "
            "within the CPU quota",
        ),
    ] = None
    batch_threads: Annotated[
        int | None,
        Option(
            help="Threads that compute prompts and steps of several answers",
            parser=opt.whole_number(1, 1024),
            group=MODEL,
            metavar="N",
            automatic="as measured here (`appliance tune`), else as many as --threads",
        ),
    ] = None
    ubatch_rows: Annotated[
        int | None,
        Option(
            help="Most tokens of a step that are computed together, at most --max-batch-rows; "
            "fewer take less memory",
            parser=opt.whole_number(1, 8192, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="as measured here, else 128, or all on a GPU",
        ),
    ] = None
    flash_attention: Annotated[
        bool | None,
        Option(
            help="Compute attention with llama.cpp's flash attention: on or off. Quantized KV "
            "needs it",
            parser=opt.on_off(),
            group=MODEL,
            metavar="on/off",
            automatic="on for quantized KV; for f16 as measured here, else off on x86 and on "
            "elsewhere",
        ),
    ] = None
    mmap: Annotated[
        bool | None,
        Option(
            help="Map the model's file instead of reading a copy of it into memory: on or off",
            parser=opt.on_off(),
            group=MODEL,
            metavar="on/off",
            automatic="as measured here, else on",
        ),
    ] = None
    no_tune: Annotated[
        bool,
        Option(
            help="Measure nothing at the first start with a model; what `appliance tune` found "
            "is used all the same",
            parser=opt.truth(),
            group=MODEL,
            switch=True,
        ),
    ] = False
    gpu_layers: Annotated[
        int | None,
        Option(
            help="Layers to compute on GPUs, counted from the output layer back: a number, all, "
            "or 0 for none",
            parser=opt.layers(_ALL_LAYERS),
            group=GPU,
            metavar="N",
            automatic="as many as fit in the free memory of the GPUs there are",
        ),
    ] = None
    split_mode: Annotated[
        str,
        Option(
            help="How several GPUs share a model: whole layers each (layer), rows of every "
            "matrix (row, which few libraries can), or one GPU alone (none)",
            parser=opt.one_of(*SPLIT_MODES),
            group=GPU,
            metavar="MODE",
        ),
    ] = "layer"
    tensor_split: Annotated[
        tuple[float, ...],
        Option(
            help="A proportion for every GPU: how much of the model it gets, such as 3,1 "
            "(default: by free memory)",
            parser=opt.proportion(),
            group=GPU,
            metavar="N,N",
            many=True,
        ),
    ] = ()
    main_gpu: Annotated[
        int | None,
        Option(
            help="The one GPU of --split-mode none, counted from 0 as `appliance fit --device` "
            "lists them",
            parser=opt.whole_number(0, 63),
            group=GPU,
            metavar="N",
            automatic="the one with the most free memory",
        ),
    ] = None
