"""Options of one model: how large, how it is computed.

Knows no source and no server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.network_values import helper_address
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
            help="Longest request in tokens, prompt and answer together",
            parser=opt.whole_number(64, MAX_TOKENS, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="the context that the model was trained for, or as much of it as fits",
        ),
    ] = None
    kv_cells: Annotated[
        int | None,
        Option(
            help="Size in tokens of the KV cache that all requests share; at least --ctx",
            parser=opt.whole_number(64, MAX_TOKENS, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="--ctx times --slots, or as much of it as fits",
        ),
    ] = None
    quant: Annotated[
        str | None,
        Option(
            help="Quantization to serve, such as Q4_K_M",
            parser=opt.pattern(
                r"[A-Za-z][A-Za-z0-9_]{1,15}",
                "the name of a quantization, such as Q8_0, Q4_K_M or Q2_K",
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
            automatic="q8_0 with our own kernels on the CPU; else f16 if it fits, else q8_0",
        ),
    ] = None
    threads: Annotated[
        int | None,
        Option(
            help="Threads that compute the steps of a single answer, and everything else unless "
            "--batch-threads is given",
            parser=opt.whole_number(1, 1024),
            group=MODEL,
            metavar="N",
            automatic="as measured on this machine (`appliance tune`), else one per performance "
            "core, within the CPU quota",
        ),
    ] = None
    batch_threads: Annotated[
        int | None,
        Option(
            help="Threads that compute prompts and the steps of several answers at once",
            parser=opt.whole_number(1, 1024),
            group=MODEL,
            metavar="N",
            automatic="as measured on this machine (`appliance tune`), else as many as --threads",
        ),
    ] = None
    ubatch_rows: Annotated[
        int | None,
        Option(
            help="Largest number of tokens of a step that are computed together, at most "
            "--max-batch-rows; a smaller one takes less memory",
            parser=opt.whole_number(1, 8192, "tokens"),
            group=MODEL,
            metavar="TOKENS",
            automatic="as measured on this machine, else 128, or --max-batch-rows on a GPU",
        ),
    ] = None
    flash_attention: Annotated[
        bool | None,
        Option(
            help="Use llama.cpp's flash attention: on or off. A quantized KV cache needs it",
            parser=opt.on_off(),
            group=MODEL,
            metavar="on/off",
            automatic="on for a quantized KV cache; for f16 as measured on this machine, else on "
            "with --kernels, and without them off on x86 and on elsewhere",
        ),
    ] = None
    kernels: Annotated[
        str,
        Option(
            help="Compute with the appliance's own kernels on the CPU: auto uses those that were "
            "compared with llama.cpp's on this machine and are right and not slower; on, also the "
            "slower ones; off, none",
            parser=opt.one_of("auto", "on", "off"),
            group=MODEL,
            metavar="WHICH",
        ),
    ] = "auto"
    mmap: Annotated[
        bool | None,
        Option(
            help="Map the model file into memory instead of reading a copy of it: on or off",
            parser=opt.on_off(),
            group=MODEL,
            metavar="on/off",
            automatic="as measured on this machine, else on",
        ),
    ] = None
    no_tune: Annotated[
        bool,
        Option(
            help="Measure nothing when a model is served for the first time; what `appliance "
            "tune` has found is still used",
            parser=opt.truth(),
            group=MODEL,
            switch=True,
        ),
    ] = False
    gpu_layers: Annotated[
        int | None,
        Option(
            help="Layers to compute on GPUs, counted back from the output layer: a number, all, "
            "or 0 for none",
            parser=opt.layers(_ALL_LAYERS),
            group=GPU,
            metavar="N",
            automatic="as many as fit into the free memory of the GPUs",
        ),
    ] = None
    split_mode: Annotated[
        str,
        Option(
            help="How several GPUs share a model: each gets whole layers (layer), each gets rows "
            "of every matrix (row, which few GPU libraries support), or one GPU has it alone "
            "(none)",
            parser=opt.one_of(*SPLIT_MODES),
            group=GPU,
            metavar="MODE",
        ),
    ] = "layer"
    tensor_split: Annotated[
        tuple[float, ...],
        Option(
            help="How much of the model each GPU gets, as one proportion per GPU, such as 3,1 "
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
            help="The GPU that --split-mode none uses, counted from 0 in the order of `appliance "
            "fit --device`",
            parser=opt.whole_number(0, 63),
            group=GPU,
            metavar="N",
            automatic="the one with the most free memory",
        ),
    ] = None
    rpc: Annotated[
        tuple[str, ...],
        Option(
            help="Other machines that run `appliance rpc-worker` and take layers that do not fit "
            "here, as HOST:PORT (port 50052 if it is left out), separated by commas. One helper "
            "serves one model of one server",
            parser=helper_address(),
            group=GPU,
            metavar="HOST:PORT",
            many=True,
        ),
    ] = ()
