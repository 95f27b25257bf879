"""Options of what is logged, and how. Knows no source and no logger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.network_values import http_url
from appliance.settings.options import Option

LOGGING = "Logging"


@dataclass(frozen=True, kw_only=True)
class LoggingOptions:
    """Part of `ServerOptions`."""

    log_level: Annotated[
        str,
        Option(
            help="How much is logged; debug includes the rows of every step",
            parser=opt.one_of("debug", "info", "warning", "error"),
            group=LOGGING,
            metavar="LEVEL",
        ),
    ] = "info"
    log_format: Annotated[
        str,
        Option(
            help="Form of log lines: text for people, json for programs, an object a line",
            parser=opt.one_of("text", "json"),
            group=LOGGING,
            metavar="FORMAT",
        ),
    ] = "text"
    log_prompts: Annotated[
        bool,
        Option(
            help="Log what clients ask, too: the prompt of every request, up to 16 KiB of it. "
            "Without it no prompt and no answer is ever logged",
            parser=opt.truth(),
            group=LOGGING,
            switch=True,
        ),
    ] = False
    otlp_endpoint: Annotated[
        str | None,
        Option(
            help="Where OpenTelemetry traces of requests go: a collector that takes OTLP over "
            "HTTP; without it there are none. Needs the extra otel",
            parser=http_url(),
            group=LOGGING,
            metavar="URL",
        ),
    ] = None
