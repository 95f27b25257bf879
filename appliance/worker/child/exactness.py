"""What a request may expect when it is sent again: refused, if it wants more than there is.

Knows no kernel and no engine.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from appliance.errors import BadRequest
from appliance.protocol.requests import GenerateRequest

_log = logging.getLogger(__name__)
_REFUSAL = (
    "This model's answers are not exact here: %s. Exact answers need 'appliance serve "
    "--kernels on', a model on the CPU alone whose types our kernels have ('appliance doctor' "
    "names them), flash attention, and weights that are not repacked. "
)
_SOME_REASON = (
    "llama.cpp's own kernels compute a part of it, and their results depend on what is computed "
    "beside them"
)
_ADAPTED = (
    "Answers with adapters are not exact: llama.cpp's own kernels compute the adapters' part, and "
    "their results depend on what is computed beside it. "
)
_NONE_AT_ALL = "--exact on: every request that does not say 'exact': false will be refused. %s"
_NO_REUSE = "--cache-reuse %d is ignored: %s."
_OF_REQUEST = "Or leave out 'exact'."
_OF_SERVER = "This server demands it (--exact on): or send 'exact': false."


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """What the model can, and what the settings say."""

    has_exact_rows: bool  # see `appliance.engine.runner.Capabilities`
    is_demanded: bool  # by requests that do not say
    repeats_answers: bool  # to a request with a seed, and to a greedy one
    cache_reuse: int = 0  # equal tokens in a row whose cells may be moved; 0: none may
    why_cells_stay: str = ""  # see `Capabilities`
    why_not_exact: str = ""  # see `Capabilities`

    def warn(self) -> None:
        """Where no request can have what the settings demand, whoever starts this is told."""
        if self.is_demanded and not self.has_exact_rows:
            _log.warning(_NONE_AT_ALL, self._refusal.rstrip())
        if self.cache_reuse and self.why_cells_stay:
            _log.warning(_NO_REUSE, self.cache_reuse, self.why_cells_stay)

    def check(self, request: GenerateRequest) -> None:
        """Raises `BadRequest` where the answer is to be exact and would not be."""
        is_adapted = bool(request.adapters)
        if self._is_exact(request) and (is_adapted or not self.has_exact_rows):
            reason = _ADAPTED if is_adapted else self._refusal
            reason += _OF_SERVER if request.is_exact is None else _OF_REQUEST
            raise BadRequest(reason, param="exact")

    def min_moved_tokens(self, request: GenerateRequest) -> int:
        """How many equal tokens in a row may come from another place of another prompt:
        none for who may expect what computing the whole prompt gives.
        """
        if self._is_exact(request) or self.is_repeatable(request):
            return 0
        return self.cache_reuse if request.uses_cache and not request.scores_prompt else 0

    @property
    def _refusal(self) -> str:
        return _REFUSAL % (self.why_not_exact or _SOME_REASON)

    def _is_exact(self, request: GenerateRequest) -> bool:
        return self.is_demanded if request.is_exact is None else request.is_exact

    def is_repeatable(self, request: GenerateRequest) -> bool:
        """Worth care, where rows are not exact."""
        return self.repeats_answers and request.has_one_answer

    def repeats(self, request: GenerateRequest) -> bool:
        """Whatever is computed beside it."""
        return self.has_exact_rows and not request.adapters and request.has_one_answer
