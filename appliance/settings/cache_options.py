"""Options of what is kept of answers, so that they need not be computed again.

Knows no source and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.options import Option

CACHES = "Caches of answers"
OFF = opt.Lifetime("off")


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Part of `ServeSettings`."""

    response_cache: Annotated[
        opt.Lifetime,
        Option(
            help="How long answers are kept in --state-dir after they were last used, for who "
            "asks the same again with temperature 0 or a seed: a duration such as 1h or 7d, -1 "
            "for ever, or off. These files contain what models wrote",
            parser=opt.lifetime(),
            group=CACHES,
            metavar="DURATION",
        ),
    ] = OFF
    response_cache_bytes: Annotated[
        int,
        Option(
            help="Disk space for them; what was used longest ago goes first",
            parser=opt.byte_count(1 << 20),
            group=CACHES,
            metavar="SIZE",
        ),
    ] = 128 << 20
    embedding_cache: Annotated[
        opt.Lifetime,
        Option(
            help="How long vectors of embedding models are kept in --state-dir after they were "
            "last used, for who sends the same input again: a duration, -1 for ever, or off",
            parser=opt.lifetime(),
            group=CACHES,
            metavar="DURATION",
        ),
    ] = OFF
    embedding_cache_bytes: Annotated[
        int,
        Option(
            help="Disk space for them; what was used longest ago goes first",
            parser=opt.byte_count(1 << 20),
            group=CACHES,
            metavar="SIZE",
        ),
    ] = 256 << 20
    share_caches: Annotated[
        bool,
        Option(
            help="Give each caller also what others were answered; without this, the caches of "
            "answers are each caller's own. Who asks can tell whether somebody has asked the same",
            parser=opt.truth(),
            group=CACHES,
            switch=True,
        ),
    ] = False
