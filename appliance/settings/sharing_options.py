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
FOR_EVER = opt.Lifetime("-1")


@dataclass(frozen=True, kw_only=True)
class SharingOptions:
    """Part of `ModelSettings`."""

    slots: Annotated[
        int | None,
        Option(
            help="Requests that are answered at the same time (called `max_num_seqs` elsewhere)",
            parser=opt.whole_number(1, MAX_SLOTS),
            group=BATCH,
            metavar="N",
            automatic="4, or 1 if memory is short",
        ),
    ] = None
    max_batch_rows: Annotated[
        int,
        Option(
            help="Largest number of tokens computed in one step, over all requests (called "
            "`max_batch_size` elsewhere)",
            parser=opt.whole_number(1, 8192, "tokens"),
            group=BATCH,
            metavar="TOKENS",
        ),
    ] = 512
    max_waiting: Annotated[
        int,
        Option(
            help="Largest number of prompt tokens that may wait for a slot; requests beyond that "
            "get 429 (called `max_waiting_tokens` elsewhere)",
            parser=opt.whole_number(1, MAX_TOKENS, "tokens"),
            group=BATCH,
            metavar="TOKENS",
        ),
    ] = 65536
    max_stall_ms: Annotated[
        int,
        Option(
            help="Longest pause in a running answer that another request's long prompt may cause, "
            "in milliseconds; steps are as short as they can be while prompts are computed at "
            "nearly the best rate measured on this machine",
            parser=opt.whole_number(1, 60_000, "milliseconds"),
            group=BATCH,
            metavar="MS",
        ),
    ] = 120
    resident_prefix_cells: Annotated[
        int | None,
        Option(
            help="Cells of the KV cache that may keep prefixes of finished requests for reuse; 0 "
            "keeps none. Every filled cell slows down every step a little",
            parser=opt.whole_number(0, MAX_TOKENS, "tokens"),
            group=BATCH,
            metavar="TOKENS",
            automatic="as many as slow down a single answer by 3 %, as measured on this machine",
        ),
    ] = None
    prefix_host_bytes: Annotated[
        int | None,
        Option(
            help="Memory for prefixes that had to leave the KV cache; a size such as 512MiB, or 0 "
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
            help="Disk space in --state-dir for long prefixes that were used again, so that they "
            "need not be computed anew after a restart; a size such as 2GiB, or 0 for none. "
            "These files contain what people wrote",
            parser=opt.byte_count(0),
            group=BATCH,
            metavar="SIZE",
        ),
    ] = 512 << 20
    prefix_ttl_s: Annotated[
        float,
        Option(
            help="How long an unused prefix is kept: seconds, or a duration such as 1h30m",
            parser=opt.seconds(0, 31_536_000),
            group=BATCH,
            metavar="DURATION",
        ),
    ] = 3600.0
    prefix_disk_ttl: Annotated[
        opt.Lifetime,
        Option(
            help="How long a prefix is kept on disk after it, or what continues it, was written: a "
            "duration such as 7d, "
            "-1 as long as there is room, or off",
            parser=opt.lifetime(),
            group=BATCH,
            metavar="DURATION",
        ),
    ] = FOR_EVER
    cache_reuse: Annotated[
        int,
        Option(
            help="Take over cached tokens also behind a changed piece of a prompt, such as the "
            "time of day at its beginning, where at least so many in a row are the same; 0 for "
            "off. Such an answer is not what computing the whole prompt would give; requests "
            "with a seed, temperature 0 or 'exact' are computed whole",
            parser=opt.whole_number(0, MAX_TOKENS, "tokens"),
            group=BATCH,
            metavar="TOKENS",
        ),
    ] = 0
    draft: Annotated[
        str,
        Option(
            help="A smaller model of the same family that drafts what may follow, so that the "
            "model can verify several tokens per step where that is faster; answers stay the "
            "same. Anything that MODEL can be, mtp for the model's own heads (multi-token "
            "prediction), auto for these or else the catalog's choice, if there is one and it "
            "fits, or off",
            parser=opt.path_or_name(),
            group=SPECULATION,
            metavar="MODEL",
        ),
    ] = "off"
    prompt_lookup: Annotated[
        bool,
        Option(
            help="Draft what may follow from earlier text of this request or another, and verify "
            "several tokens per step where that is faster: on or off. Answers stay the same",
            parser=opt.on_off(),
            group=SPECULATION,
            metavar="on/off",
        ),
    ] = True
    repeatable: Annotated[
        bool,
        Option(
            help="Give a request with a seed, or with temperature 0, the same answer each time, as "
            "long as nobody else's runs beside it: on or off. It costs such a request drafts, and "
            "the cached tokens of earlier answers; where answers are exact, it costs nothing",
            parser=opt.on_off(),
            group=SPECULATION,
            metavar="on/off",
        ),
    ] = True
    exact: Annotated[
        bool,
        Option(
            help="Refuse what could not be answered exactly, so that no answer depends on who is "
            "served beside it, on the cache or on drafts: on or off. It takes kernels of our own "
            "(--kernels) for all of the model; a request's field 'exact' decides for itself",
            parser=opt.on_off(),
            group=SPECULATION,
            metavar="on/off",
        ),
    ] = False
