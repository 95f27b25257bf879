"""Runs in a child process: a worker without a model that answers every request at once,
one token a step for each.

Knows no text: every token is the same word. Usage: python -m bench.shell.instant_worker
CPU FD
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading

from appliance.protocol.events import (
    AskResult,
    Delta,
    Event,
    Finished,
    FinishReason,
    Started,
    Usage,
)
from appliance.protocol.model_info import ModelInfo
from appliance.worker.channel import BlockingChannel, ChannelClosed
from appliance.worker.frames import (
    Cancel,
    Load,
    Ready,
    StepEvents,
    Stop,
    Submit,
    ToWorker,
    decode_to_worker,
    encode,
)

WORD = " word"
_PROMPT_TOKENS = 8


def main(cpu: int, channel: BlockingChannel) -> None:
    os.sched_setaffinity(0, {cpu})
    load = decode_to_worker(channel.receive())
    assert isinstance(load, Load)
    config = load.config
    info = ModelInfo(
        name="instant",
        quantization="F32",
        num_params=0,
        num_vocab=0,
        ctx=config.ctx,
        train_ctx=0,
        slots=config.sizes.slots,
        kv_cells=config.sizes.kv_cells,
        kv_type="f16",
        has_chat_template=True,
        system_info="",
    )
    channel.send(encode(Ready(info, 0.0)))
    inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(channel, inbox), daemon=True).start()
    _answer(channel, inbox)


def _read(channel: BlockingChannel, inbox: queue.SimpleQueue[ToWorker]) -> None:
    try:
        while True:
            inbox.put(decode_to_worker(channel.receive()))
    except ChannelClosed:
        inbox.put(Stop())


def _answer(channel: BlockingChannel, inbox: queue.SimpleQueue[ToWorker]) -> None:
    left: dict[int, int] = {}  # tokens, by request
    wanted: dict[int, int] = {}
    while True:
        begun: list[Event | AskResult] = []
        while not left or not inbox.empty():
            message = inbox.get()
            if isinstance(message, Stop):
                return
            if isinstance(message, Cancel):
                left.pop(message.request_id, None)
            elif isinstance(message, Submit):
                number = message.request_id
                left[number] = wanted[number] = message.request.max_tokens or 1
                begun.append(Started(number, _PROMPT_TOKENS))
        channel.send(encode(StepEvents([*begun, *_step(left, wanted)])))


def _step(left: dict[int, int], wanted: dict[int, int]) -> list[Event]:
    events: list[Event] = [Delta(request_id=number, text=WORD, num_tokens=1) for number in left]
    for number in list(left):
        left[number] -= 1
        if left[number] == 0:
            del left[number]
            usage = Usage(
                num_prompt_tokens=_PROMPT_TOKENS,
                num_cached_tokens=0,
                num_completion_tokens=wanted.pop(number),
            )
            events.append(Finished(request_id=number, reason=FinishReason.LENGTH, usage=usage))
    return events


if __name__ == "__main__":
    main(int(sys.argv[1]), BlockingChannel(socket.socket(fileno=int(sys.argv[2]))))
