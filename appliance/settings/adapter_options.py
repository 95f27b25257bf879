"""Options of one model: what can be added to it for single requests.

Knows no source, no file and no request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.adapter_values import NamedAdapter, named_adapter
from appliance.settings.options import Option

ADAPTERS = "Adapters"


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Part of `ModelSettings`."""

    lora: Annotated[
        tuple[NamedAdapter, ...],
        Option(
            help="LoRA adapter (GGUF) for requests that ask for it: as MODEL:NAME, or in 'lora'. "
            "SCALE is its strength where a request does not say (default: 1). May be repeated; "
            "those in the folder adapters/MODEL of --models-dir are there without it",
            parser=named_adapter(),
            group=ADAPTERS,
            metavar="NAME=FILE[:SCALE]",
            many=True,
        ),
    ] = ()
    control_vector: Annotated[
        tuple[NamedAdapter, ...],
        Option(
            help="Control vector (GGUF) for requests that ask for it: as MODEL:NAME, or in "
            "'control_vectors'; otherwise as --lora",
            parser=named_adapter(),
            group=ADAPTERS,
            metavar="NAME=FILE[:SCALE]",
            many=True,
        ),
    ] = ()
    adapter_turn_ms: Annotated[
        int | None,
        Option(
            help="How long requests with the same adapters are computed while others wait for "
            "their turn, in milliseconds",
            parser=opt.whole_number(1, 60_000, "milliseconds"),
            group=ADAPTERS,
            metavar="MS",
            automatic="as long as --max-stall-ms",
        ),
    ] = None
