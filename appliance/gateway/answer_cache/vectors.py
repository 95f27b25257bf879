"""Vectors that were computed once, by the text of their input.

Knows no format and no file.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from appliance.errors import PromptTooLong
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.answer_cache.entries import Entries
from appliance.gateway.answer_cache.keys import vector_key
from appliance.gateway.router import ServedModel
from appliance.protocol.events import CacheUse, EmbedResult
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.requests import EmbedRequest

Compute = Callable[[EmbedRequest], Awaitable[EmbedResult]]

_NUM_TOKENS = struct.Struct("<I")  # of the input; its vector follows
_BYTES_PER_VALUE = 4


class EmbeddingCache:
    """`is_shared`: a caller gets also what was computed for others."""

    def __init__(self, entries: Entries, *, is_shared: bool = False) -> None:
        self.entries = entries
        self._is_shared = is_shared

    async def embed(
        self, caller: Caller, model: ServedModel, request: EmbedRequest, compute: Compute
    ) -> EmbedResult:
        """As `compute` gives it for the request, which is asked only for inputs that are not
        there. Raises what it raises.
        """
        owner, info = "" if self._is_shared else caller.id, model.client.info
        if info is None or not info.fingerprint:
            return await self._first(owner, model, request, compute)
        keys = [vector_key(owner, info, each, request.role) for each in request.inputs]
        found = await self.entries.get([*dict.fromkeys(keys)])
        missing = {
            key: given for key, given in zip(keys, request.inputs, strict=True) if key not in found
        }
        if not missing:
            if model.stay is not None:  # it has been used, as far as its lifetime goes
                await model.stay(request.keep_alive_s)
            return _joined(keys, found, {}, CacheUse.HIT)
        asked = msgspec.structs.replace(request, inputs=[*missing.values()])
        try:
            computed = await compute(asked)
        except PromptTooLong:
            # before anything was computed; the reason names the input by its number
            return await compute(request)
        values = dict(zip(missing, _values_of(computed), strict=True))
        self._keep(model, info, values)
        result = _joined(keys, found, values, CacheUse.MISS)
        return msgspec.structs.replace(result, compute_ms=computed.compute_ms)

    async def _first(
        self, owner: str, model: ServedModel, request: EmbedRequest, compute: Compute
    ) -> EmbedResult:
        """Of a model that is not loaded yet: nobody knows what is there of it."""
        computed = await compute(request)
        info = model.client.info
        if info is None or not info.fingerprint:
            return computed
        keys = [vector_key(owner, info, each, request.role) for each in request.inputs]
        self._keep(model, info, dict(zip(keys, _values_of(computed), strict=True)))
        return msgspec.structs.replace(computed, cache=CacheUse.MISS)

    def _keep(self, model: ServedModel, info: ModelInfo, values: Mapping[bytes, bytes]) -> None:
        """Not where another worker may have computed them."""
        now = model.client.info
        if now is not None and now.fingerprint == info.fingerprint:
            self.entries.put(values)


def _values_of(computed: EmbedResult) -> list[bytes]:
    """One for each input."""
    num_bytes = computed.num_values * _BYTES_PER_VALUE
    return [
        _NUM_TOKENS.pack(num_tokens) + computed.values[at * num_bytes : (at + 1) * num_bytes]
        for at, num_tokens in enumerate(computed.input_tokens)
    ]


def _joined(
    keys: list[bytes], found: Mapping[bytes, bytes], computed: Mapping[bytes, bytes], use: CacheUse
) -> EmbedResult:
    """In the order of `keys`; an input that comes twice was computed once."""
    values, num_tokens, num_cached, seen = [], 0, 0, set()
    for key in keys:
        value = found[key] if key in found else computed[key]
        [num] = _NUM_TOKENS.unpack_from(value)
        values.append(value[_NUM_TOKENS.size :])
        num_tokens += num
        num_cached += num if key in found or key in seen else 0
        seen.add(key)
    return EmbedResult(
        request_id=0,
        values=b"".join(values),
        num_values=len(values[0]) // _BYTES_PER_VALUE,
        num_tokens=num_tokens,
        num_cached_tokens=num_cached,
        cache=use,
    )
