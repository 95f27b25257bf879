"""A worker without native code that dies where its arguments say,
for tests of the supervisor.

Usage: python -m tests.worker.scripted_worker DEATHS FD
DEATHS lists what kills it, as PATH:MOMENT:SIGNAL separated by commas: PATH is `plain`
or `extra`, MOMENT is `load` or `request`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from appliance.protocol.model_info import ModelInfo
from appliance.worker.channel import BlockingChannel
from appliance.worker.config import WorkerConfig
from appliance.worker.frames import Load, Ready, Stop, decode_to_worker, encode


def die(deaths: list[str], config: WorkerConfig, moment: str) -> None:
    for death in deaths:
        path, when, name = death.split(":")
        if (path == "extra") is config.use_extra_bufts and when == moment:
            os.kill(os.getpid(), signal.Signals[name])


def info(config: WorkerConfig) -> ModelInfo:
    path = "extra" if config.use_extra_bufts else "plain"
    return ModelInfo(
        name=path,
        quantization="F32",
        num_params=0,
        num_vocab=0,
        ctx=config.ctx,
        train_ctx=0,
        slots=config.sizes.slots,
        kv_cells=config.sizes.kv_cells,
        kv_type=config.sizes.kv_type,
        has_chat_template=False,
        system_info="",
    )


def main() -> None:
    deaths = [death for death in sys.argv[1].split(",") if death]
    channel = BlockingChannel(socket.socket(fileno=int(sys.argv[2])))
    load = decode_to_worker(channel.receive())
    assert isinstance(load, Load)
    die(deaths, load.config, "load")
    channel.send(encode(Ready(info(load.config), 0.0)))
    while not isinstance(decode_to_worker(channel.receive()), Stop):
        die(deaths, load.config, "request")


if __name__ == "__main__":
    main()
