"""The worker process: joins engine, llama.cpp and text, and speaks to the parent.

Knows no HTTP and no settings.

Usage: python -m appliance.worker.child FD
"""

from __future__ import annotations

import errno
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from appliance.engine.cost import StepCost
from appliance.engine.drafting.controlled import ControlledDrafting
from appliance.engine.drafting.prompt_lookup import PromptLookup
from appliance.engine.embedding import Scoring
from appliance.engine.engine import Engine
from appliance.errors import ApplianceError, ErrorRecord, HelperLost, LoadFailed
from appliance.lifeline import die_with_parent
from appliance.llama import library, use_all_cpus
from appliance.llama.embedding import input_frame
from appliance.llama.model import Model
from appliance.llama.rpc.names import endpoints_of
from appliance.llama.rpc.watch import RPC_SOURCE, helper_lost, watch_connections
from appliance.logs import log_to_stderr
from appliance.protocol.model_info import ModelInfo
from appliance.text.chats.clock import clock_formats
from appliance.worker.channel import BlockingChannel, ChannelClosed
from appliance.worker.child import translation
from appliance.worker.child.confining import confine_worker
from appliance.worker.child.embedding import Embedding
from appliance.worker.child.exactness import Exactness
from appliance.worker.child.generating import Generating
from appliance.worker.child.loading import TextModel, load_embedding_model, load_text_model
from appliance.worker.child.loop import WorkerLoop
from appliance.worker.child.outputs.text_outputs import TextOutputs
from appliance.worker.child.thread_limits import note_on_address_space, why_no_thread
from appliance.worker.child.tokenizing.checkpoint_places import (
    CheckpointPlaces,
    text_before_answers,
)
from appliance.worker.child.tokenizing.embedding_inputs import EmbeddingInputs
from appliance.worker.child.tokenizing.grammars import STACK_BYTES, LazyGrammars
from appliance.worker.child.tokenizing.output_formats import OutputFormats
from appliance.worker.child.tokenizing.prompts import Prompts
from appliance.worker.child.tokenizing.text_pieces import text_pieces
from appliance.worker.child.tokenizing.text_requests import TextRequests
from appliance.worker.child.vital import exit_now
from appliance.worker.config import WorkerConfig
from appliance.worker.frames import Load, LoadError, Ready, decode_to_worker, encode


def main(argv: list[str]) -> int:
    # The parent decides when we end, by message or by closing the socket. A signal to
    # the whole group (a terminal's Ctrl-C, a service manager's TERM) is meant for it:
    # streams in flight may still finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    channel = BlockingChannel(socket.socket(fileno=int(argv[0])))
    try:
        first = decode_to_worker(channel.receive())
    except ChannelClosed:
        return 0
    assert isinstance(first, Load), first
    config = first.config
    log_to_stderr(config.log_level, config.log_format, "worker")
    started_s = time.monotonic()
    library.on_abort(partial(_report_abort, channel, config))
    try:
        confine_worker(config)
        join = _join_embedding if config.embeds else _join_generating
        loop, info = join(config, channel)
        # a load error would be none from now on
        library.on_abort(partial(_report_lost_helper, channel, config))
        _watch_helpers(channel, config)
        loop.start(Ready(info, time.monotonic() - started_s))
    except ApplianceError as error:
        channel.send(encode(LoadError(_with_limit(error))))
        return 1
    loop.run()
    return 0


def _report_abort(channel: BlockingChannel, config: WorkerConfig, words: str) -> None:
    """Last words, of a process that llama.cpp is about to end."""
    if _report_lost_helper(channel, config, words):
        return
    error = LoadFailed(
        f"llama.cpp gave up on {config.model_path}: {words}. The file is damaged, or says "
        "something of its model that this version cannot compute."
    )
    channel.send(encode(LoadError(error.record())))


def _report_lost_helper(channel: BlockingChannel, config: WorkerConfig, words: str) -> bool:
    """Whether that is what llama.cpp is about to end this process for."""
    endpoints = endpoints_of(config.offload.devices)
    if not endpoints or RPC_SOURCE not in words:
        return False
    error = helper_lost(endpoints)
    channel.send(encode(LoadError(error.record())))
    return True


def _watch_helpers(channel: BlockingChannel, config: WorkerConfig) -> None:
    """Ends this process when one is gone: also while nothing is computed, and where
    llama.cpp would wait for ever.
    """

    def lose(error: HelperLost) -> None:
        channel.send(encode(LoadError(error.record())))
        exit_now(1)

    if endpoints := endpoints_of(config.offload.devices):
        watch_connections(endpoints, lose)


def _with_limit(error: ApplianceError) -> ErrorRecord:
    """What llama.cpp says of memory that it does not get names no limit."""
    record, note = error.record(), note_on_address_space()
    if not note or note[:20] in record.message or not isinstance(error, LoadFailed):
        return record
    return replace(record, message=f"{record.message} {note}")


def _join_generating(
    config: WorkerConfig, channel: BlockingChannel
) -> tuple[WorkerLoop[Any], ModelInfo]:
    """Raises an `ApplianceError` where the model cannot be loaded."""
    loaded = load_text_model(config)
    model = loaded.model
    prompts = _prompts(model, config)
    generating = _generating(config, loaded)
    generating.restore_prefixes(config.prefix_host_bytes)
    loop = WorkerLoop(
        channel=channel,
        computing=generating,
        preparing=TextRequests(
            prompts,
            OutputFormats(model, LazyGrammars(model), prompts.end_of_turn),
            _checkpoint_places(model, prompts),
        ),
        prompts=prompts,
        prepare_thread=use_all_cpus,
        tokenizer_stack_bytes=STACK_BYTES,
    )
    info = msgspec.structs.replace(
        translation.model_info(config, model),
        kv_cells=loaded.runner.capabilities.num_cells,
        exact_rows=loaded.runner.capabilities.exact_rows,
        has_chat_template=prompts.chats.has_template,
        tool_use=prompts.chats.tool_use.value,
        speculation=translation.speculation(
            config,
            memory=model.memory,
            architecture=model.metadata("general.architecture") or "",
            has_draft=loaded.draft is not None,
        ),
        fingerprint=translation.answer_fingerprint(
            config, prompts.chats.all_sources, loaded.adapters.identities
        ),
        clock_formats=clock_formats(prompts.chats.all_sources),
    )
    return loop, info


def _checkpoint_places(model: Model, prompts: Prompts) -> CheckpointPlaces | None:
    """None where sequences share cells wherever their prompts part."""
    if model.memory.shares_prefixes:
        return None
    usual = prompts.chats.usual
    return CheckpointPlaces(
        "" if usual is None else text_before_answers(usual.template),
        partial(model.tokenize, parse_special=True),
    )


def _generating(config: WorkerConfig, loaded: TextModel) -> Generating:
    model, runner = loaded.model, loaded.runner
    cost = StepCost(runner.capabilities.attention)
    exactness = Exactness(
        has_exact_rows=runner.capabilities.exact_rows,
        is_demanded=config.exact,
        repeats_answers=config.repeatable,
        cache_reuse=config.cache_reuse,
        why_cells_stay=runner.capabilities.why_cells_stay,
        why_not_exact=runner.capabilities.why_not_exact,
    )
    exactness.warn()
    lookup = PromptLookup() if config.prompt_lookup else None
    drafting = ControlledDrafting(lookup, loaded.draft, cost) if lookup or loaded.draft else None
    engine = Engine(
        runner,
        translation.limits(config),
        translation.keep_policy(config),
        cost=cost,
        drafting=drafting,
    )
    return Generating(
        engine=engine,
        cost=cost,
        outputs=TextOutputs(
            model.piece,
            engine.finish,
            model.text_of,
            text_pieces=partial(text_pieces, model, shows_special=False),
            adds_space_prefix=model.adds_space_prefix,
        ),
        step_times=translation.step_times(config),
        prefix_files=translation.prefix_files(config),
        exactness=exactness,
        adapters=loaded.adapters,
    )


def _join_embedding(
    config: WorkerConfig, channel: BlockingChannel
) -> tuple[WorkerLoop[Any], ModelInfo]:
    """Raises an `ApplianceError` where the model cannot be loaded."""
    loaded = load_embedding_model(config)
    model, encoder = loaded.model, loaded.encoder
    loop = WorkerLoop(
        channel=channel,
        computing=Embedding(translation.embedding_queue(config, encoder), scoring=encoder.scoring),
        preparing=EmbeddingInputs(
            model, input_frame(model), ranks=encoder.scoring is not Scoring.NONE
        ),
        prompts=_prompts(model, config),
        prepare_thread=use_all_cpus,
    )
    info = msgspec.structs.replace(
        translation.model_info(config, model),
        pooling=encoder.pooling,
        num_embedding_values=encoder.num_values,
        fingerprint=translation.answer_fingerprint(config),
    )
    return loop, info


def _prompts(model: Model, config: WorkerConfig) -> Prompts:
    """Made on a thread of its own, for the process that renders has the CPUs of the thread
    that starts it, and the main one has a single core.

    Raises `LoadFailed` where the system has no room for them.
    """
    try:
        with ThreadPoolExecutor(1, initializer=use_all_cpus) as thread:
            return thread.submit(
                Prompts,
                model,
                config.ctx,
                chat_template=config.chat_template,
                tools=config.tools,
            ).result()
    except RuntimeError as error:  # Python's only word for a thread that cannot be started
        if "start new thread" not in str(error):
            raise
        raise LoadFailed(f"A thread cannot be started. {why_no_thread(0)}") from error
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.ENOMEM):
            raise
        raise LoadFailed(f"A process cannot be started. {why_no_thread(0)}") from error


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
