"""Several answers, to one prompt or to several: the requests of one call.

Knows no model and no wire format.

Each is a request of its own: the engine computes a prompt that they share once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from appliance.protocol.events import Event
from appliance.protocol.requests import GenerateRequest

MAX_CHOICES = 16  # to one prompt: a request that asks for more is refused
MAX_ANSWERS = 128  # to all prompts of a request


class ChoiceEvent(msgspec.Struct, frozen=True):
    """What happened to one of the answers, counted from 0:
    first all to the first prompt.
    """

    index: int
    event: Event


def choice_requests(prompts: Sequence[GenerateRequest], num_choices: int) -> list[GenerateRequest]:
    """One request per answer, so many to each prompt; a given seed counts upwards, so
    that each of these is another one and all can be had again.
    """
    return [_with_seed(request, index) for request in prompts for index in range(num_choices)]


def _with_seed(request: GenerateRequest, index: int) -> GenerateRequest:
    seed = request.sampling.seed
    if seed is None or index == 0:
        return request
    return msgspec.structs.replace(request, sampling=replace(request.sampling, seed=seed + index))
