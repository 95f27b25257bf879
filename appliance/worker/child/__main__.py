"""The worker process: joins engine, llama.cpp and text, and speaks to the parent.

Knows no HTTP and no settings.

Six threads. The reader takes messages and waits for nothing else. Two tokenizers render
and tokenize short and long prompts, and compile grammars, so that a long one delays
nobody. The main thread owns the engine: one step, one message. The sender writes the
messages while the next step is computed. The heart queues a `Heartbeat` every second,
whatever the others do. When the parent goes away, its end of the socket closes and the
worker exits.

Usage: python -m appliance.worker.child FD
"""

from __future__ import annotations

import logging
import queue
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

from appliance.engine.cells import KeepPolicy
from appliance.engine.cost import StepCost
from appliance.engine.drafting import ControlledDrafting
from appliance.engine.embedding import EmbeddingQueue
from appliance.engine.engine import Engine, EngineRequest
from appliance.engine.prompt_lookup import PromptLookup
from appliance.engine.scheduler import Limits
from appliance.errors import ApplianceError, BadRequest
from appliance.llama import library, use_all_cpus
from appliance.llama.context import ContextConfig
from appliance.llama.draft import DraftModel, load_draft
from appliance.llama.embedding import EmbeddingConfig, EmbeddingContext, input_frame
from appliance.llama.gpu import GpuLayers
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.events import AskResult, Event, Failed
from appliance.protocol.health import Heartbeat
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.relief import Relief
from appliance.protocol.requests import ChatPrompt, InfillPrompt, TextPrompt, TokenPrompt
from appliance.worker.channel import BlockingChannel, ChannelClosed
from appliance.worker.child.answers import Answers, drafts_of
from appliance.worker.child.embedding_inputs import EmbeddingInputs
from appliance.worker.child.embedding_worker import EmbeddingWorker
from appliance.worker.child.grammars import STACK_BYTES, LazyGrammars
from appliance.worker.child.lifeline import die_with_parent
from appliance.worker.child.prefix_files import PrefixFiles, fingerprint
from appliance.worker.child.prompts import Prompts
from appliance.worker.child.replies import Replies
from appliance.worker.child.slots import slots_of
from appliance.worker.child.step_times import StepTimes, machine_name
from appliance.worker.child.tokenizing import Prepared, PreparedInputs, Tokenizing
from appliance.worker.child.vital import exit_now, start_vital
from appliance.worker.config import DraftConfig, WorkerConfig
from appliance.worker.frames import (
    Ask,
    Cancel,
    Embed,
    Load,
    LoadError,
    Ready,
    Relieve,
    StepEvents,
    Stop,
    Submit,
    ToWorker,
    decode_to_worker,
    encode,
)
from appliance.worker.heap import trim_heap

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 1.0
_MAX_FLUSH_S = 1.0  # for what is still to be sent when the worker stops
_IDLE_S = 0.5  # after so long without a request, prefixes are written to disk
_MAX_CURVE_S = 4.0  # for measuring what steps cost, the first time that a model is loaded so
_MAX_WRITE_AT_STOP_S = 3.0  # the parent waits 5 before it kills


class Worker:
    """One loaded model and the loop around its engine."""

    def __init__(
        self,
        channel: BlockingChannel,
        model: Model,
        runner: LlamaRunner,
        draft: DraftModel | None,
        config: WorkerConfig,
    ) -> None:
        self._channel = channel
        self._prompts = Prompts(model, config.ctx)
        limits = Limits(
            config.ctx, config.max_waiting_tokens, config.max_stall_ms, config.max_row_cells
        )
        self._times = _step_times(config)
        self._cost = StepCost(runner.capabilities.foreign_cell_cost)
        lookup = PromptLookup() if config.prompt_lookup else None
        drafting = ControlledDrafting(lookup, draft, self._cost) if lookup or draft else None
        self._engine = Engine(
            runner, limits, _keep_policy(config), cost=self._cost, drafting=drafting
        )
        if not self._times.load(self._cost):
            self._engine.learn_curve(_MAX_CURVE_S)
            self._times.save(self._cost)
        self._answers = Answers(model.piece, self._engine.finish, model.text_of)
        self._inbox: queue.SimpleQueue[Prepared | Cancel | Relieve | Stop] = queue.SimpleQueue()
        self._tokenizing = Tokenizing(
            self._prompts,
            Replies(model, self._prompts.form, LazyGrammars(model)),
            self._take_prepared,
        )
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
        sender = start_vital("sender", self._write, prepare=use_all_cpus)
        for name, work in (("reader", self._read), ("heart", self._beat)):
            start_vital(name, work, prepare=use_all_cpus)
        for name, work in (
            ("short", self._tokenizing.run_short),
            ("long", self._tokenizing.run_long),
        ):
            start_vital(f"{name} tokenizer", work, prepare=use_all_cpus, stack_bytes=STACK_BYTES)
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
        """Handles what has come in, waiting for something if there is nothing to
        compute; False means stop.
        """
        while not (self._engine.has_work and self._inbox.empty()):
            message = self._next_message()
            if isinstance(message, Stop):
                self._times.save(self._cost)
                self._write_prefixes(_MAX_WRITE_AT_STOP_S)
                return False
            if isinstance(message, Cancel):
                self._engine.finish(message.request_id)
                self._answers.drop(message.request_id)
            elif isinstance(message, Relieve):
                self._relieve(message.relief)
            else:
                self._submit(message)
        return True

    def _take_prepared(self, prepared: Prepared | PreparedInputs | AskResult | Failed) -> None:
        """On a tokenizer's thread: what asks for no computing has its answer at once."""
        assert not isinstance(prepared, PreparedInputs), "this model makes no vectors"
        if isinstance(prepared, Prepared):
            self._inbox.put(prepared)
        else:
            self._outbox.put(StepEvents([prepared]))

    def _relieve(self, relief: Relief) -> None:
        num_bytes = self._engine.num_host_bytes
        self._engine.relieve(relief)
        if self._engine.num_host_bytes < num_bytes:
            trim_heap()

    def _next_message(self) -> Prepared | Cancel | Relieve | Stop:
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
            self._engine.submit(
                EngineRequest(
                    request_id=request_id,
                    prompt=prepared.tokens,
                    sampling=request.sampling,
                    max_new_tokens=request.max_tokens,
                    shifts_context=request.shifts_context,
                    keeps_prefix=request.keeps_prefix,
                    constraint=prepared.reply.constraint,
                    uses_cache=request.uses_cache,
                    scores_prompt=request.scores_prompt,
                )
            )
        except ApplianceError as error:
            if isinstance(error, BadRequest) and error.param is None:
                error.param = _param_of(request.prompt)
            self._send([Failed(request_id, error.record())])
        else:
            self._send(
                [
                    self._answers.start(
                        request_id, len(prepared.tokens), request, prepared.reply.parser
                    )
                ]
            )

    def _send(self, events: list[Event]) -> None:
        if events:
            self._outbox.put(StepEvents([*events]))

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
                data = self._channel.receive()
                message = decode_to_worker(data)
                if isinstance(message, Submit | Ask | Embed):
                    self._tokenizing.submit(message, len(data))
                    continue
                if isinstance(message, Cancel):
                    self._tokenizing.cancel(message.request_id)
                self._inbox.put(_expected(message))
        except ChannelClosed:
            self._inbox.put(Stop())

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
                tokenize_age_s=self._tokenizing.age_s(),
                prefix_host_bytes=engine.num_host_bytes,
                num_sampled_tokens=engine.num_sampled_tokens,
                drafts=drafts_of(engine.drafts),
                slots=slots_of(engine.running),
            )
            self._outbox.put(beat)
            time.sleep(_HEARTBEAT_S)


def _param_of(prompt: ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt) -> str:
    """The request's field that a prompt came in."""
    if isinstance(prompt, InfillPrompt):
        return prompt.param
    return "messages" if isinstance(prompt, ChatPrompt) else "prompt"


def _keep_policy(config: WorkerConfig) -> KeepPolicy:
    return KeepPolicy(
        config.resident_prefix_cells,
        config.prefix_ttl_s,
        config.prefix_host_bytes,
        config.max_prefix_slowdown,
    )


def _attention(config: WorkerConfig) -> tuple[str, str]:
    """What decides how cells are laid out."""
    return config.kv_type, "flash attention" if config.flash_attention else "scores"


def _on_gpus(config: WorkerConfig) -> tuple[str, ...]:
    """What decides how fast GPUs are; nothing where there are none, so that what was
    learned without stays known.
    """
    offload = config.offload
    if offload.gpu_layers == 0:
        return ()
    split = ",".join(
        f"{device}={part:g}"
        for device, part in zip(offload.devices, offload.tensor_split, strict=True)
    )
    return (
        f"{offload.gpu_layers} GPU layers",
        offload.split_mode.value,
        split,
        f"KV on GPU: {offload.kv_on_gpu}",
    )


def _step_times(config: WorkerConfig) -> StepTimes:
    path = "extra buffers" if config.use_extra_bufts else "plain"
    threads = f"{config.threads}/{config.batch_threads} threads, {config.ubatch_rows} rows"
    parts = (
        *_attention(config),
        library.fingerprint(),
        path,
        threads,
        machine_name(),
        *_on_gpus(config),
    )
    folder = Path(config.step_times_dir) if config.step_times_dir else None
    return StepTimes(folder, fingerprint(Path(config.model_path), *parts))


def _prefix_files(config: WorkerConfig) -> PrefixFiles | None:
    if config.prefix_disk_bytes <= 0 or config.prefix_host_bytes <= 0:
        return None
    name = fingerprint(Path(config.model_path), *_attention(config), library.fingerprint())
    return PrefixFiles(Path(config.prefix_dir), name, config.prefix_disk_bytes)


def _expected(message: ToWorker) -> Cancel | Relieve | Stop:
    assert isinstance(message, Cancel | Relieve | Stop), message
    return message


def _load_model(config: WorkerConfig) -> Model:
    offload = config.offload
    layers = GpuLayers(
        num_layers=offload.gpu_layers,
        devices=offload.devices,
        split_mode=offload.split_mode.value,
        tensor_split=offload.tensor_split,
        main_gpu=offload.main_gpu,
    )
    return Model(
        Path(config.model_path),
        use_extra_bufts=config.use_extra_bufts,
        use_mmap=config.use_mmap,
        gpu=layers,
    )


def _load(config: WorkerConfig) -> tuple[Model, LlamaRunner, DraftModel | None]:
    model, offload = _load_model(config), config.offload
    context = ContextConfig(
        kv_cells=config.kv_cells,
        num_slots=config.slots,
        max_rows=config.max_batch_rows,
        kv_type=config.kv_type,
        threads=config.threads,
        flash_attention=config.flash_attention,
        batch_threads=config.batch_threads,
        ubatch_rows=config.ubatch_rows,
        max_draft_rows=config.max_draft_rows,
        offload_kv=offload.kv_on_gpu,
        offload_ops=offload.gpu_layers > 0,
    )
    runner = LlamaRunner(model, context)
    runner.warm_up()
    can_draft = runner.capabilities.max_draft_rows > 0
    draft = (
        _load_draft(config.draft, config, context, model, runner)
        if config.draft and can_draft
        else None
    )
    return model, runner, draft


def _load_draft(
    draft: DraftConfig,
    config: WorkerConfig,
    context: ContextConfig,
    target: Model,
    runner: LlamaRunner,
) -> DraftModel | None:
    """Raises `LoadFailed` if it cannot draft for `target` and is required; else there is none."""
    sizes = replace(
        context,
        kv_cells=draft.kv_cells,
        max_rows=draft.max_rows,
        kv_type="f16",
        ubatch_rows=min(context.ubatch_rows or draft.max_rows, draft.max_rows),
        max_draft_rows=0,
        offload_kv=False,
        offload_ops=False,
    )
    try:
        model = load_draft(
            Path(draft.model_path),
            target,
            use_extra_bufts=config.use_extra_bufts,
            use_mmap=config.use_mmap,
        )
        drafter = DraftModel(
            model,
            sizes,
            num_target_vocab=target.num_vocab,
            foreign_cell_cost=runner.capabilities.foreign_cell_cost,
        )
        drafter.learn_curve()
    except ApplianceError as error:
        if draft.is_required:
            raise
        _log.warning("no draft model: %s", error)
        return None
    return drafter


def _serve_embeddings(config: WorkerConfig, channel: BlockingChannel, started_s: float) -> None:
    """Raises an `ApplianceError` where the model cannot be loaded; then nothing was
    told to the parent.
    """
    model = _load_model(config)
    sizes = EmbeddingConfig(
        max_rows=config.ctx,
        threads=config.batch_threads or config.threads,
        flash_attention=config.flash_attention,
        offload_ops=config.offload.gpu_layers > 0,
    )
    encoder = EmbeddingContext(model, sizes)
    encoder.warm_up()
    worker = EmbeddingWorker(
        channel,
        Prompts(model, config.ctx),
        EmbeddingInputs(model, input_frame(model), ranks=encoder.ranks),
        EmbeddingQueue(encoder, config.max_batch_rows, config.max_waiting_tokens),
        ranks=encoder.ranks,
        prepare_thread=use_all_cpus,
    )
    info = ModelInfo(
        name=model.metadata("general.name") or Path(config.model_path).stem,
        quantization=model.quantization,
        num_params=model.num_params,
        num_vocab=model.num_vocab,
        ctx=config.ctx,
        train_ctx=model.train_ctx,
        slots=config.slots,
        kv_cells=0,
        kv_type="",
        has_chat_template=False,
        system_info=library.system_info(),
        gpu_layers=config.offload.gpu_layers,
        gpu_bytes=library.buffers.on(config.offload.devices),
        pooling=encoder.pooling,
        num_embedding_values=encoder.num_values,
    )
    channel.send(encode(Ready(info, time.monotonic() - started_s)))
    worker.run()


def _info(
    config: WorkerConfig,
    model: Model,
    runner: LlamaRunner,
    draft: DraftModel | None,
    has_chat_template: bool,
) -> ModelInfo:
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
        gpu_layers=config.offload.gpu_layers,
        gpu_bytes=library.buffers.on(config.offload.devices),
        speculation=_speculation(config, model, draft),
    )


def _speculation(config: WorkerConfig, model: Model, draft: DraftModel | None) -> str:
    """In words, for people: by whom is drafted, or why nothing is."""
    drafters = [PromptLookup.name] if config.prompt_lookup else []
    if draft is not None and config.draft is not None:
        drafters.append(f"{DraftModel.name} {Path(config.draft.model_path).stem}")
    if not drafters and config.draft is None:
        return "off"
    if not model.can_roll_back:
        return "off: this model's recurrent states cannot be taken back to before a token that was not accepted"
    if not config.max_draft_rows:
        return "off: there is no memory for it"
    return " and ".join(drafters) or "off: the draft model cannot be used, as the log says"


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
    logging.basicConfig(
        level=config.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s worker %(name)s: %(message)s",
    )
    started_s = time.monotonic()
    try:
        if config.embeds:
            _serve_embeddings(config, channel, started_s)
            return 0
        model, runner, draft = _load(config)
        worker = Worker(channel, model, runner, draft, config)
    except ApplianceError as error:
        channel.send(encode(LoadError(error.record())))
        return 1
    info = _info(config, model, runner, draft, worker.has_chat_template)
    channel.send(encode(Ready(info, time.monotonic() - started_s)))
    worker.run()
    return 0


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
