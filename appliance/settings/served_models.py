"""Options of which models a server has, and what they may take together.

Knows no source of values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.model_options import MODEL
from appliance.settings.options import Option
from appliance.settings.per_model import ModelValue

SEVERAL = "Several models"


@dataclass(frozen=True, kw_only=True)
class NamedOptions:
    """The first part of `ServeSettings`."""

    model: Annotated[
        tuple[str, ...],
        Option(
            help="The name of a known model, a .gguf file, a checkpoint directory (with "
            "config.json), a repository on a hub: org/repo or org/repo:QUANT, a name that "
            "`list --available` shows, or auto: the best chat model that fits. Several can be "
            "served; the first one answers requests that name no model",
            parser=opt.path_or_name(),
            group=MODEL,
            metavar="MODEL",
            positional=True,
            many=True,
            default_from=lambda _environ: (),
            default_text="smollm2-135m, or novels-6m where that is not installed",
        ),
    ] = ()
    ram: Annotated[
        int | None,
        Option(
            help="Memory that all processes together may take; a size such as 6GiB",
            parser=opt.byte_count(),
            group=MODEL,
            metavar="SIZE",
            automatic="what is free now on the machine and within its control groups",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ServedModelsOptions:
    """Part of `ServeSettings`."""

    all_models: Annotated[
        bool,
        Option(
            help="Also serve every other model of the models directory and the catalog",
            parser=opt.truth(),
            group=SEVERAL,
            switch=True,
        ),
    ] = False
    preload: Annotated[
        tuple[str, ...],
        Option(
            help="Model to load at the start, if there is room, instead of with its first "
            "request; may be repeated. `none` loads no model",
            parser=opt.path_or_name(),
            group=SEVERAL,
            metavar="NAME",
            many=True,
            automatic="the first model",
        ),
    ] = ()
    keep_alive: Annotated[
        tuple[opt.KeepAlive, ...],
        Option(
            help="How long an unused model stays in memory: seconds, a duration such as 1h30m, or "
            "-1 (forever); NAME=DURATION for one model. May be repeated",
            parser=opt.keep_alive(),
            group=SEVERAL,
            metavar="DURATION",
            many=True,
            automatic="30m, or forever if only one model is served",
        ),
    ] = ()
    load_wait_s: Annotated[
        float,
        Option(
            help="How long a request may wait for its model to be loaded, after which it gets 503: "
            "seconds, or a duration such as 1h30m",
            parser=opt.seconds(0.1, 86_400),
            group=SEVERAL,
            metavar="DURATION",
        ),
    ] = 300.0
    never_smaller: Annotated[
        bool,
        Option(
            help="Load models in full size only. If the models in use leave too little memory for "
            "another, it waits for them instead of being loaded in a lower quantization or with "
            "a shorter context",
            parser=opt.truth(),
            group=SEVERAL,
            switch=True,
        ),
    ] = False
    set: Annotated[
        tuple[ModelValue, ...],
        Option(
            help="An option of one model, such as gemma-3-4b:ctx=8192; may be repeated. The "
            "options of the groups Model and memory (except MODEL and --ram), GPU, Batching and "
            "queue, Speculation, Chat and Adapters can be set like this, or in a TOML table "
            "[models.NAME]. What is set for one model wins over what is set for all",
            parser=opt.assignment(),
            group=SEVERAL,
            metavar="NAME:KEY=VALUE",
            many=True,
            separator=";",
        ),
    ] = ()
