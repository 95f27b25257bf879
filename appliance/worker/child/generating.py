"""A model that writes text, as the loop drives it:
an engine, and the text of what it samples.

Knows no thread, no channel and no llama.cpp.
"""

from __future__ import annotations

import time

from appliance.engine.adapters.sets import AdapterSet
from appliance.engine.cost import StepCost
from appliance.engine.engine import Engine
from appliance.engine.requests import EngineRequest
from appliance.errors import ApplianceError, BadRequest
from appliance.protocol.events import Failed, Message
from appliance.protocol.health import Heartbeat
from appliance.protocol.questions import AskSlot
from appliance.protocol.relief import Relief
from appliance.protocol.requests import ChatPrompt, GenerationPrompt, InfillPrompt
from appliance.worker.child.adapter_names import AdapterNames
from appliance.worker.child.exactness import Exactness
from appliance.worker.child.outputs.text_outputs import TextOutputs, drafts_of
from appliance.worker.child.prefix_files import PrefixFiles
from appliance.worker.child.slot_files import SlotFiles
from appliance.worker.child.slots import slots_of
from appliance.worker.child.step_times import StepTimes
from appliance.worker.child.tokenizing.text_requests import Prepared
from appliance.worker.heap import trim_heap

_MAX_CURVE_S = 4.0  # for measuring what steps cost, the first time that a model is loaded so
_MAX_WRITE_AT_STOP_S = 3.0  # the parent waits 5 before it kills


class Generating:
    """Implements `appliance.worker.child.loop.Computing`."""

    def __init__(
        self,
        *,
        engine: Engine,
        cost: StepCost,
        outputs: TextOutputs,
        step_times: StepTimes,
        prefix_files: PrefixFiles | None,
        exactness: Exactness,
        adapters: AdapterNames | None = None,
    ) -> None:
        """`cost` is the engine's; what it learned in earlier runs comes from
        `step_times`, or is measured now.
        """
        self._engine = engine
        self._cost = cost
        self._outputs = outputs
        self._step_times = step_times
        self._prefix_files = prefix_files
        self._slot_files = SlotFiles(engine.cells, prefix_files)
        self._exactness = exactness
        self._adapters = adapters or AdapterNames()
        if not step_times.load(cost, engine.long_cost):
            engine.learn_curve(_MAX_CURVE_S)
            engine.long_cost.take_over(cost)
            step_times.save(cost, engine.long_cost)

    def restore_prefixes(self, max_bytes: int) -> None:
        """Takes back into host memory what earlier runs wrote to disk."""
        if self._prefix_files is not None:
            for saved in self._prefix_files.load(time.perf_counter(), max_bytes):
                self._engine.take_back(saved)

    @property
    def has_work(self) -> bool:
        return self._engine.has_work

    def submit(self, prepared: Prepared) -> list[Message]:
        """`Started`, or why it is refused."""
        request, request_id = prepared.request, prepared.request_id
        try:
            if prepared.error is not None:
                raise prepared.error
            self._exactness.check(request)
            adapters = self._adapters.of(request.adapters)
            self._engine.submit(_engine_request(prepared, self._exactness, adapters))
        except ApplianceError as error:
            if isinstance(error, BadRequest) and error.param is None:
                error.param = _param_of(request.prompt)
            return [Failed(request_id, error.record())]
        output = prepared.output_format
        started = self._outputs.start(
            request_id,
            prepared.tokens,
            request,
            output.parser,
            unenforced=output.unenforced,
            end_of_turn=output.end_of_turn,
            repeats=self._exactness.repeats(request),
        )
        return [started]

    def cancel(self, request_id: int) -> None:
        self._engine.finish(request_id)
        self._outputs.drop(request_id)

    def suspend(self, request_id: int) -> None:
        self._engine.suspend(request_id)

    def resume(self, request_id: int) -> None:
        self._engine.resume(request_id)

    def relieve(self, relief: Relief) -> None:
        num_bytes = self._engine.num_host_bytes
        self._engine.relieve(relief)
        if self._engine.num_host_bytes < num_bytes:
            trim_heap()

    def pace(self, share: float) -> float:
        return self._engine.pace(share)

    def ask_slot(self, request_id: int, question: AskSlot) -> Message:
        try:
            return self._slot_files.answer(request_id, question)
        except ApplianceError as error:
            return Failed(request_id, error.record())

    def step(self) -> list[Message]:
        started_s, computed_s = time.perf_counter(), self._engine.computed_s
        messages: list[Message] = [*self._outputs.events(self._engine.step())]
        elapsed_s = time.perf_counter() - started_s
        self._step_times.note_outside(elapsed_s - (self._engine.computed_s - computed_s))
        return messages

    def work_while_idle(self) -> bool:
        """Writes one prefix to disk."""
        saved = self._engine.next_for_disk() if self._prefix_files is not None else None
        if self._prefix_files is None or saved is None:
            return False
        self._prefix_files.write(saved)
        saved.on_disk = True  # written or refused: not tried again
        return True

    def prepare_to_stop(self) -> None:
        self._step_times.save(self._cost, self._engine.long_cost)
        deadline_s = time.monotonic() + _MAX_WRITE_AT_STOP_S
        while self.work_while_idle() and time.monotonic() < deadline_s:
            pass

    def heartbeat(self, *, step_age_s: float, tokenize_age_s: float) -> Heartbeat:
        engine = self._engine
        return Heartbeat(
            num_running=engine.num_running,
            num_waiting=engine.num_waiting,
            num_steps=engine.num_steps,
            num_used_cells=engine.num_used_cells,
            step_age_s=step_age_s,
            tokenize_age_s=tokenize_age_s,
            prefix_host_bytes=engine.num_host_bytes,
            num_sampled_tokens=engine.num_sampled_tokens,
            drafts=drafts_of(engine.drafts),
            slots=slots_of(engine.running),
            num_rows=engine.num_rows,
            done_ms=engine.work.done_ms,
        )


def _engine_request(
    prepared: Prepared, exactness: Exactness, adapters: AdapterSet
) -> EngineRequest:
    request = prepared.request
    return EngineRequest(
        request_id=prepared.request_id,
        prompt=prepared.tokens,
        sampling=request.sampling,
        max_new_tokens=request.max_tokens,
        shifts_context=request.shifts_context,
        keeps_prefix=request.keeps_prefix,
        constraint=prepared.output_format.constraint,
        uses_cache=request.uses_cache,
        scores_prompt=request.scores_prompt,
        reports_progress=request.reports_progress,
        is_repeatable=exactness.is_repeatable(request),
        min_moved_tokens=exactness.min_moved_tokens(request),
        places=prepared.places,
        adapters=adapters,
    )


def _param_of(prompt: GenerationPrompt) -> str:
    """The request's field that a prompt came in."""
    if isinstance(prompt, InfillPrompt):
        return prompt.param
    return "messages" if isinstance(prompt, ChatPrompt) else "prompt"
