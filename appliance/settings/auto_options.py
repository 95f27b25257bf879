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


def probability() -> Parser:
    def read(text: str) -> float:
        value = float(text)
        if not 0 <= value <= 1:  # also refuses nan
            raise ValueError
        return value

    return Parser(read, "a probability from 0 to 1, such as 0.2")


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
    auto_min_probability: Annotated[
        float,
        Option(
            help="Where `auto` was asked without `stream`: an answer whose tokens the model found "
            "less likely than this in the geometric mean is given to the next larger model too; "
            "0: none is for that reason",
            parser=probability(),
            group=AUTO_MODEL,
            metavar="PROBABILITY",
        ),
    ] = 0.2
