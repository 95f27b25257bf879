"""The worker process: joins engine, llama.cpp and text, and speaks to the parent. Knows no HTTP and no settings.

Four threads. The reader takes messages, renders and tokenizes prompts, so that a long one delays nobody's next token.
The main thread owns the engine: one step, one message. The sender writes the messages while the next step is computed.
The heart queues a `Heartbeat` every second, whatever the others do. When the parent goes away, its end of the socket
closes and the worker exits.

Usage: python -m appliance.worker.process FD
"""

from __future__ import annotations

import datetime
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from appliance.engine.cells import KeepPolicy
from appliance.engine.engine import Broken, Engine, EngineRequest, Output, Sampled
from appliance.engine.scheduler import Limits
from appliance.engine.sequence import FinishReason
from appliance.errors import ApplianceError, BadRequest, PromptTooLong, TemplateFailed
from appliance.llama import library
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.text.answer import Answer
from appliance.text.chat_template import ChatTemplate
from appliance.worker.channel import BlockingChannel, ChannelClosed
from appliance.worker.messages import (
    Cancel,
    ChatPrompt,
    Delta,
    Event,
    Failed,
    Finished,
    GenerateRequest,
    Heartbeat,
    Load,
    LoadError,
    ModelInfo,
    Ready,
    Started,
    StepEvents,
    Stop,
    Submit,
    TextPrompt,
    TokenPrompt,
    ToWorker,
    Usage,
    WorkerConfig,
    decode_to_worker,
    encode,
)
from appliance.worker.prefix_files import PrefixFiles, fingerprint

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 1.0
_MAX_FLUSH_S = 1.0  # for what is still to be sent when the worker stops
_IDLE_S = 0.5  # after so long without a request, prefixes are written to disk
_MAX_WRITE_AT_STOP_S = 3.0  # the parent waits 5 before it kills


class Prompts:
    """Turns any kind of prompt into token ids, with the BOS that the model wants, once."""

    def __init__(self, model: Model, ctx: int) -> None:
        self._model = model
        self._ctx = ctx
        self._bos_text = model.text_of(model.bos)
        self._max_bytes = ctx * model.longest_piece_bytes()
        self._template, self._no_template = self._compile(model.metadata("tokenizer.chat_template"))

    @property
    def has_template(self) -> bool:
        return self._template is not None

    def _compile(self, source: str | None) -> tuple[ChatTemplate | None, str]:
        """The template, or why there is none: without one, text can still be continued."""
        if not source:
            return None, "This model has no chat template."
        eos = self._model.text_of(self._model.eos)
        try:
            return ChatTemplate(source, bos=self._bos_text, eos=eos, now=datetime.datetime.now), ""
        except TemplateFailed as error:
            _log.warning("no chat: %s", error.message)
            return None, error.message

    def tokens(self, prompt: ChatPrompt | TextPrompt | TokenPrompt) -> list[int]:
        """Raises `TemplateFailed`."""
        if isinstance(prompt, TokenPrompt):
            return list(prompt.tokens)
        is_text = isinstance(prompt, TextPrompt)
        text = prompt.text if isinstance(prompt, TextPrompt) else self._render(prompt)
        self._check_size(text)
        return self._with_bos(self._model.tokenize(text, parse_special=not is_text))

    def _check_size(self, text: str) -> None:
        """What cannot fit however it is tokenized is not tokenized: that takes time, quadratic for special tokens."""
        if len(text) > self._max_bytes:
            raise PromptTooLong(
                f"The prompt has {len(text)} characters. No token is longer than "
                f"{self._max_bytes // self._ctx} bytes, so they cannot fit into the context of {self._ctx} tokens."
            )

    def _render(self, prompt: ChatPrompt) -> str:
        if self._template is None:
            raise TemplateFailed(f"{self._no_template} Use /v1/completions instead.", param="messages")
        return self._template.render(prompt.messages)

    def _with_bos(self, tokens: list[int]) -> list[int]:
        bos = self._model.bos
        if bos is None or not self._model.adds_bos or tokens[:1] == [bos]:
            return tokens
        return [bos, *tokens]


@dataclass
class Live:
    """A request between `Started` and its end."""

    answer: Answer
    num_prompt_tokens: int
    num_told_tokens: int = 0  # in `Delta`s so far


class Answers:
    """The text side of every request in the engine: turns its tokens into events."""

    def __init__(self, piece: Callable[[int], bytes], finish: Callable[[int], None]) -> None:
        self._piece = piece
        self._finish = finish
        self._live: dict[int, Live] = {}

    def start(self, request_id: int, num_prompt_tokens: int, stop: list[str]) -> Event:
        self._live[request_id] = Live(Answer(stop), num_prompt_tokens)
        return Started(request_id, num_prompt_tokens)

    def drop(self, request_id: int) -> None:
        self._live.pop(request_id, None)

    def events(self, outputs: list[Output]) -> list[Event]:
        events: list[Event] = []
        for output in outputs:
            if isinstance(output, Broken):
                self.drop(output.request_id)
                events.append(Failed(output.request_id, output.error.record()))
            else:
                events.extend(self._sampled(output))
        return events

    def _sampled(self, output: Sampled) -> list[Event]:
        live = self._live[output.request_id]
        reason = output.finish_reason
        text = "" if reason is FinishReason.STOP else live.answer.feed(self._piece(output.token))
        if live.answer.stopped and reason is None:
            self._finish(output.request_id)
        if live.answer.stopped:
            reason = FinishReason.STOP
        if reason is None:
            return self._delta(output, live, text)
        del self._live[output.request_id]
        usage = Usage(live.num_prompt_tokens, output.num_cached_tokens, output.num_new_tokens)
        return [*self._delta(output, live, text + live.answer.flush()), Finished(output.request_id, reason, usage)]

    @staticmethod
    def _delta(output: Sampled, live: Live, text: str) -> list[Event]:
        if not text:
            return []
        num_tokens = output.num_new_tokens - live.num_told_tokens
        live.num_told_tokens = output.num_new_tokens
        return [Delta(output.request_id, text, num_tokens)]


@dataclass(frozen=True)
class Prepared:
    """A request whose prompt is tokenized, or could not be."""

    request_id: int
    request: GenerateRequest
    tokens: list[int]
    error: ApplianceError | None = None


class Worker:
    """One loaded model and the loop around its engine."""

    def __init__(self, channel: BlockingChannel, model: Model, runner: LlamaRunner, config: WorkerConfig) -> None:
        self._channel = channel
        self._prompts = Prompts(model, config.ctx)
        limits = Limits(config.ctx, config.max_waiting_tokens, config.max_stall_ms)
        self._engine = Engine(runner, limits, _keep_policy(config))
        self._answers = Answers(model.piece, self._engine.finish)
        self._inbox: queue.SimpleQueue[Prepared | Cancel | Stop] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[StepEvents | Heartbeat | None] = queue.SimpleQueue()
        self._step_started_s: float | None = None
        self._files = _prefix_files(config)
        if self._files is not None:
            for saved in self._files.load(time.perf_counter(), config.prefix_host_bytes):
                self._engine.take_back(saved)

    @property
    def has_chat_template(self) -> bool:
        return self._prompts.has_template

    def run(self) -> None:
        """Until `Stop`, or until the parent goes away."""
        sender = threading.Thread(target=_vital, args=(self._write,), name="sender", daemon=True)
        for thread in (
            sender,
            threading.Thread(target=_vital, args=(self._read,), name="reader", daemon=True),
            threading.Thread(target=_vital, args=(self._beat,), name="heart", daemon=True),
        ):
            thread.start()
        while self._take_messages():
            self._step()
        self._outbox.put(None)
        sender.join(_MAX_FLUSH_S)

    def _step(self) -> None:
        self._step_started_s = time.monotonic()
        outputs = self._engine.step()
        self._step_started_s = None
        self._send(self._answers.events(outputs))

    def _take_messages(self) -> bool:
        """Handles what has come in, waiting for something if there is nothing to compute; False means stop."""
        while not (self._engine.has_work and self._inbox.empty()):
            message = self._next_message()
            if isinstance(message, Stop):
                self._write_prefixes(_MAX_WRITE_AT_STOP_S)
                return False
            if isinstance(message, Cancel):
                self._engine.finish(message.request_id)
                self._answers.drop(message.request_id)
            else:
                self._submit(message)
        return True

    def _next_message(self) -> Prepared | Cancel | Stop:
        """Waits for one; a pause is used to write prefixes to disk, one at a time."""
        while not self._engine.has_work:
            try:
                return self._inbox.get(timeout=_IDLE_S)
            except queue.Empty:
                if not self._write_next_prefix():
                    break
        return self._inbox.get()

    def _write_prefixes(self, limit_s: float) -> None:
        deadline_s = time.monotonic() + limit_s
        while self._write_next_prefix() and time.monotonic() < deadline_s:
            pass

    def _write_next_prefix(self) -> bool:
        saved = self._engine.next_for_disk() if self._files is not None else None
        if self._files is None or saved is None:
            return False
        self._files.write(saved)
        saved.on_disk = True  # written or refused: not tried again
        return True

    def _submit(self, prepared: Prepared) -> None:
        request, request_id = prepared.request, prepared.request_id
        try:
            if prepared.error is not None:
                raise prepared.error
            self._engine.submit(EngineRequest(request_id, prepared.tokens, request.sampling, request.max_tokens))
        except ApplianceError as error:
            if isinstance(error, BadRequest) and error.param is None:
                error.param = "messages" if isinstance(request.prompt, ChatPrompt) else "prompt"
            self._send([Failed(request_id, error.record())])
        else:
            self._send([self._answers.start(request_id, len(prepared.tokens), request.stop)])

    def _send(self, events: list[Event]) -> None:
        if events:
            self._outbox.put(StepEvents(events))

    def _write(self) -> None:
        """One message after the other, in order; encoded here too, beside the next step."""
        try:
            while (message := self._outbox.get()) is not None:
                self._channel.send(encode(message))
        except ChannelClosed:
            _log.info("the parent is gone")
            self._inbox.put(Stop())

    def _read(self) -> None:
        try:
            while True:
                message = decode_to_worker(self._channel.receive())
                self._inbox.put(self._prepare(message) if isinstance(message, Submit) else _expected(message))
        except ChannelClosed:
            self._inbox.put(Stop())

    def _prepare(self, message: Submit) -> Prepared:
        try:
            tokens = self._prompts.tokens(message.request.prompt)
        except ApplianceError as error:
            return Prepared(message.request_id, message.request, [], error)
        return Prepared(message.request_id, message.request, tokens)

    def _beat(self) -> None:
        while True:
            started_s = self._step_started_s
            step_age_s = 0.0 if started_s is None else time.monotonic() - started_s
            engine = self._engine
            beat = Heartbeat(
                num_running=engine.num_running,
                num_waiting=engine.num_waiting,
                num_steps=engine.num_steps,
                num_used_cells=engine.num_used_cells,
                step_age_s=step_age_s,
            )
            self._outbox.put(beat)
            time.sleep(_HEARTBEAT_S)


def _vital(work: Callable[[], None]) -> None:
    """Runs a thread's work; without it the worker would only look alive, so its failure ends the process."""
    try:
        work()
    except Exception:  # noqa: BLE001 - whatever it is, the process must not go on without the thread
        _log.exception("the %s failed", threading.current_thread().name)
        _exit(1)


def _keep_policy(config: WorkerConfig) -> KeepPolicy:
    return KeepPolicy(config.resident_prefix_cells, config.prefix_ttl_s, config.prefix_host_bytes)


def _prefix_files(config: WorkerConfig) -> PrefixFiles | None:
    if config.prefix_disk_bytes <= 0 or config.prefix_host_bytes <= 0:
        return None
    name = fingerprint(Path(config.model_path), config.kv_type, library.fingerprint())
    return PrefixFiles(Path(config.prefix_dir), name, config.prefix_disk_bytes)


def _expected(message: ToWorker) -> Cancel | Stop:
    assert isinstance(message, Cancel | Stop), message
    return message


def _load(config: WorkerConfig) -> tuple[Model, LlamaRunner]:
    model = Model(Path(config.model_path), use_extra_bufts=config.use_extra_bufts)
    context = ContextConfig(
        kv_cells=config.kv_cells,
        num_slots=config.slots,
        max_rows=config.max_batch_rows,
        kv_type=config.kv_type,
        threads=config.threads,
    )
    runner = LlamaRunner(model, context)
    runner.warm_up()
    return model, runner


def _info(config: WorkerConfig, model: Model, runner: LlamaRunner, has_chat_template: bool) -> ModelInfo:
    return ModelInfo(
        name=model.metadata("general.name") or Path(config.model_path).stem,
        quantization=model.quantization,
        num_params=model.num_params,
        num_vocab=model.num_vocab,
        ctx=config.ctx,
        train_ctx=model.train_ctx,
        slots=config.slots,
        kv_cells=runner.capabilities.num_cells,
        kv_type=config.kv_type,
        has_chat_template=has_chat_template,
        system_info=library.system_info(),
    )


def main(argv: list[str]) -> int:
    # The parent decides when we end, by message or by closing the socket. A signal to the whole group (a terminal's
    # Ctrl-C, a service manager's TERM) is meant for it: streams in flight may still finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = BlockingChannel(socket.socket(fileno=int(argv[0])))
    try:
        first = decode_to_worker(channel.receive())
    except ChannelClosed:
        return 0
    assert isinstance(first, Load), first
    config = first.config
    logging.basicConfig(
        level=config.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s worker %(name)s: %(message)s",
    )
    started_s = time.monotonic()
    try:
        model, runner = _load(config)
        worker = Worker(channel, model, runner, config)
    except ApplianceError as error:
        channel.send(encode(LoadError(error.record())))
        return 1
    info = _info(config, model, runner, worker.has_chat_template)
    channel.send(encode(Ready(info, time.monotonic() - started_s)))
    worker.run()
    return 0


def _exit(status: int) -> NoReturn:
    """Ends at once: the operating system frees llama.cpp's memory faster and more safely than its destructors."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _exit(main(sys.argv[1:]))
