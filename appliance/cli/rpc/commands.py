"""`rpc-worker` as an entry of the table of commands, with its flags. Knows nothing of its
work.
"""

from __future__ import annotations

import argparse

from appliance.cli.command import Command, argument_type
from appliance.settings import ServeSettings
from appliance.settings.network_values import helper_address
from appliance.settings.options import byte_count

_DEFAULT_LISTEN = "127.0.0.1:50052"
_DEFAULT_CACHE_BYTES = 32 << 30


def _rpc_worker(settings: ServeSettings, args: argparse.Namespace) -> int:
    from appliance.cli.rpc import worker

    return worker.run(
        settings, args.listen, cache_bytes=args.cache_bytes, is_insecure=args.insecure_rpc
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        type=argument_type(helper_address()),
        default=_DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help="This machine's address in a network that nobody else is in, and a port (default: "
        f"{_DEFAULT_LISTEN})",
    )
    parser.add_argument(
        "--cache-bytes",
        type=argument_type(byte_count(0)),
        default=_DEFAULT_CACHE_BYTES,
        metavar="SIZE",
        help="How much of the disk may hold weights that were sent before, so that they need not "
        "be sent again; 0 keeps none (default: 32GiB)",
    )
    parser.add_argument(
        "--insecure",
        dest="insecure_rpc",
        action="store_true",
        help="Listen on an address that may be public all the same",
    )


RPC_COMMANDS = (
    Command(
        name="rpc-worker",
        summary="Lend this machine to a model on another one that is too large for it",
        description="Computes layers for one server at a time, which names this machine with "
        "--rpc. The protocol is llama.cpp's: it asks for no key and encrypts nothing, and whoever "
        "reaches the port can read and crash this process. It therefore listens on loopback and "
        "private addresses alone, unless --insecure is given: use WireGuard, or `ssh -L`. Runs "
        "until Ctrl-C. Exit code 1: it cannot listen, or llama.cpp is built without RPC.",
        run=_rpc_worker,
        options=("threads", "ram", "state_dir", "log_level", "log_format"),
        add_arguments=_arguments,
    ),
)
