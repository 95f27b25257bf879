"""An answer's events as one value, and back.

Knows no request and no key.
"""

from __future__ import annotations

import struct

import msgspec

from appliance.protocol.events import Delta, Event, Finished, Stages, Started

_MAX_BYTES = 1 << 20  # 16,000 tokens of a stream
_ARRAY = struct.Struct(">BI")  # MessagePack's array of up to 2^32 items
_ARRAY_TYPE = 0xDD
_COMPUTED_NOTHING = Stages(queue_ms=0.0, prefill_ms=0.0, decode_ms=0.0)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Started | Delta | Finished])


class Recording:
    """Of one answer, while it is computed."""

    def __init__(self, max_bytes: int) -> None:
        """One that is longer is not kept."""
        self._max_bytes = min(max_bytes, _MAX_BYTES)
        self._encoded = bytearray()
        self._num_events = 0
        self._is_too_long = False

    def add(self, event: Event) -> None:
        if self._is_too_long:
            return
        self._encoded += _encoder.encode(event)
        self._num_events += 1
        if len(self._encoded) > self._max_bytes:
            self._is_too_long = True
            self._encoded.clear()

    def value(self) -> bytes | None:
        """None where it was too long."""
        if self._is_too_long:
            return None
        return _ARRAY.pack(_ARRAY_TYPE, self._num_events) + bytes(self._encoded)


def recorded_events(value: bytes) -> list[Event]:
    """As they were recorded, but for when the model computed.

    Raises `msgspec.DecodeError` for what is no recording.
    """
    events: list[Event] = []
    for event in _decoder.decode(value):
        if isinstance(event, Finished):
            stages = None if event.stages is None else _COMPUTED_NOTHING
            events.append(msgspec.structs.replace(event, stages=stages))
        else:
            events.append(event)
    return events
