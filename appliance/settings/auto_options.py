"""Options of the model `auto`, which is whichever of several a request needs.

Knows no source and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.options import Option, Parser

AUTO_MODEL = "The model auto"
NO_TIERS = "none"
_OFF = "off"


@dataclass(frozen=True)
class Logprob:
    """A log-probability, or None for none."""

    value: float | None

    def __str__(self) -> str:
        return _OFF if self.value is None else f"{self.value:g}"


def logprob() -> Parser:
    def read(text: str) -> Logprob:
        if text.lower() == _OFF:
            return Logprob(None)
        value = float(text)
        if not -100 <= value <= 0:  # also refuses nan
            raise ValueError
        return Logprob(value)

    return Parser(read, f"a number from -100 to 0, such as -1.5, or {_OFF}", choices=(_OFF,))


def points() -> Parser:
    def read(text: str) -> float:
        value = float(text)
        if not 0 <= value <= 100:  # also refuses nan
            raise ValueError
        return value

    return Parser(read, "a number from 0 to 100, such as 15")


@dataclass(frozen=True, kw_only=True)
class AutoOptions:
    """Part of `ServeSettings`."""

    auto_tiers: Annotated[
        tuple[str, ...],
        Option(
            help="A model that requests for the model `auto` may go to, the smallest first; may be "
            f"repeated. `{NO_TIERS}`: there is no such model",
            parser=opt.path_or_name(),
            group=AUTO_MODEL,
            metavar="NAME",
            many=True,
            automatic="all models that make text, by their size",
        ),
    ] = ()
    auto_thresholds: Annotated[
        tuple[float, ...],
        Option(
            help="From how many points on, of 100, a request for `auto` goes to the next larger "
            "model; one less of them than there are models",
            parser=points(),
            group=AUTO_MODEL,
            metavar="POINTS",
            many=True,
            automatic="15 for two models, 15 and 40 for three",
        ),
    ] = ()
    auto_min_logprob: Annotated[
        Logprob,
        Option(
            help="Mean log-probability of an answer's tokens below which the next larger model is "
            "asked too, where `auto` was asked without `stream`; off: it is not looked at",
            parser=logprob(),
            group=AUTO_MODEL,
            metavar="LOGPROB",
        ),
    ] = Logprob(-1.5)
