"""Runs in a child process: a worker without a model that answers every request at once, one token a step for each.

Knows no text: every token is the same word. Usage: python -m bench.shell.instant_worker CPU FD
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading

from appliance.protocol.events import AskResult, Delta, Event, Finished, FinishReason, Started, Usage
from appliance.protocol.model_info import ModelInfo
from appliance.worker.channel import BlockingChannel, ChannelClosed
from appliance.worker.frames import Cancel, Load, Ready, StepEvents, Stop, Submit, ToWorker, decode_to_worker, encode

WORD = " word"
_PROMPT_TOKENS = 8


def main(cpu: int, channel: BlockingChannel) -> None:
    os.sched_setaffinity(0, {cpu})
    load = decode_to_worker(channel.receive())
    assert isinstance(load, Load)
    config = load.config
    info = ModelInfo("instant", "F32", 0, 0, config.ctx, 0, config.slots, config.kv_cells, "f16", True, "")
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
    events: list[Event] = [Delta(number, WORD, 1) for number in left]
    for number in list(left):
        left[number] -= 1
        if left[number] == 0:
            del left[number]
            usage = Usage(_PROMPT_TOKENS, 0, wanted.pop(number))
            events.append(Finished(number, FinishReason.LENGTH, usage))
    return events


if __name__ == "__main__":
    main(int(sys.argv[1]), BlockingChannel(socket.socket(fileno=int(sys.argv[2]))))
