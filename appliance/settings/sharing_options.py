"""Options of how requests share one model: slots, queue, prefixes, speculation.

Knows no source and no server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.model_options import MAX_TOKENS
from appliance.settings.options import Option

BATCH = "Batching and queue"
SPECULATION = "Speculation"
MAX_SLOTS = 64


@dataclass(frozen=True, kw_only=True)
class SharingOptions:
    """Part of `ModelSettings`."""

    slots: Annotated[
        int | None,
        Option(
            help="Requests that are answered at the same time (elsewhere called `max_num_seqs`)",
            parser=opt.whole_number(1, MAX_SLOTS),
            group=BATCH,
            metavar="N",
            automatic="4, or 1 where memory is short",
        ),
    ] = None
    max_batch_rows: Annotated[
        int,
        Option(
            help="Most tokens computed in one step, over all requests (elsewhere called "
            "`max_batch_size`)",
            parser=opt.whole_number(1, 8192, "tokens"),
            group=BATCH,
            metavar="TOKENS",
        ),
    ] = 512
    max_waiting: Annotated[
        int,
        Option(
            help="Most prompt tokens that may wait for a slot; beyond it requests get 429 "
            "(elsewhere called `max_waiting_tokens`)",
            parser=opt.whole_number(1, MAX_TOKENS, "tokens"),
            group=BATCH,
            metavar="TOKENS",
        ),
    ] = 65536
    max_stall_ms: Annotated[
        int,
        Option(
            help="Longest pause that somebody else's long prompt may cause in a running answer, "
            "in milliseconds; within it, the shortest step that computes prompts at nearly "
            "the best rate measured here",
            parser=opt.whole_number(1, 60_000, "milliseconds"),
            group=BATCH,
            metavar="MS",
        ),
    ] = 250
    resident_prefix_cells: Annotated[
        int | None,
        Option(
            help="Cells of the KV cache that may stay filled with prefixes of finished requests, "
            "to be reused; 0 keeps none. Every filled cell slows every step a little",
            parser=opt.whole_number(0, MAX_TOKENS, "tokens"),
            group=BATCH,
            metavar="TOKENS",
            automatic="as many as slow one answer by 3 %, as measured here, at most those of one "
            "longest request",
        ),
    ] = None
    prefix_host_bytes: Annotated[
        int | None,
        Option(
            help="Memory for prefixes that had to leave the KV cache; a size such as 512MiB, 0 "
            "for none",
            parser=opt.byte_count(0),
            group=BATCH,
            metavar="SIZE",
            automatic="half of the memory that the plan leaves free, at most 1GiB",
        ),
    ] = None
    prefix_disk_bytes: Annotated[
        int,
        Option(
            help="Disk space in --state-dir for long prefixes that were used again, so that a "
            "restart need not compute them; a size such as 2GiB, 0 for none. They hold what "
            "people wrote",
            parser=opt.byte_count(0),
            group=BATCH,
            metavar="SIZE",
        ),
    ] = 512 << 20
    prefix_ttl_s: Annotated[
        float,
        Option(
            help="How long an unused prefix is kept, in seconds",
            parser=opt.seconds(0, 31_536_000),
            group=BATCH,
            metavar="SECONDS",
        ),
    ] = 3600.0
    draft: Annotated[
        str,
        Option(
            help="A smaller model of the same family that drafts what may follow, for the model "
            "to verify several tokens a step where that is quicker; answers stay the same: "
            "a model as MODEL names one, auto for the catalog's choice if it is known and "
            "fits, or off",
            parser=opt.path_or_name(),
            group=SPECULATION,
            metavar="MODEL",
        ),
    ] = "off"
    prompt_lookup: Annotated[
        bool,
        Option(
            help="Draft what may follow from text that was there already, in this request or "
            "another, and verify it several tokens a step where that is quicker; answers "
            "stay the same: on or off",
            parser=opt.on_off(),
            group=SPECULATION,
            metavar="on/off",
        ),
    ] = True
