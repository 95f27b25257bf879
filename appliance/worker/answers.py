"""The text side of a request's end: its tokens become events. Knows no thread, no channel and no llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.engine.engine import Broken, Output, Sampled
from appliance.engine.sequence import FinishReason
from appliance.engine.speculation import DraftUse
from appliance.text.answer import Answer
from appliance.worker.held_tokens import HeldTokens
from appliance.worker.messages import Delta, Drafts, Event, Failed, Finished, LikelyToken, Started, Usage


@dataclass
class Live:
    """A request between `Started` and its end."""

    answer: Answer
    num_prompt_tokens: int
    num_told_tokens: int = 0  # in `Delta`s so far
    held: HeldTokens | None = None  # where log-probabilities are asked for


class Answers:
    """The text side of every request in the engine: turns its tokens into events."""

    def __init__(
        self, piece: Callable[[int], bytes], finish: Callable[[int], None], name: Callable[[int], str] = str
    ) -> None:
        """`piece` gives a token's text, `name` how a control token, which has none, is written."""
        self._piece = piece
        self._name = name
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
            elif output.request_id in self._live:  # else a stop string was found before this token of the same step
                events.extend(self._sampled(output))
        return events

    def _sampled(self, output: Sampled) -> list[Event]:
        live = self._live[output.request_id]
        reason = output.finish_reason
        text = "" if reason is FinishReason.STOP else self._feed(live, output)
        if live.answer.stopped and reason is None:
            self._finish(output.request_id)
        if live.answer.stopped:
            reason = FinishReason.STOP
        if reason is None:
            return self._delta(output, live, text)
        del self._live[output.request_id]
        usage = Usage(
            live.num_prompt_tokens,
            output.num_cached_tokens,
            output.num_new_tokens,
            output.num_discarded_tokens,
            None if output.drafts is None else drafts_of(output.drafts),
        )
        return [*self._delta(output, live, text + live.answer.flush()), Finished(output.request_id, reason, usage)]

    def _feed(self, live: Live, output: Sampled) -> str:
        piece = self._piece(output.token)
        if output.logprobs is not None:
            live.held = live.held or HeldTokens()
            top = [self._likely(token, logprob) for token, logprob in output.logprobs.top]
            live.held.add(piece, self._likely(output.token, output.logprobs.chosen), top)
        return live.answer.feed(piece)

    def _likely(self, token: int, logprob: float) -> LikelyToken:
        piece = self._piece(token)
        return LikelyToken(piece, logprob) if piece else LikelyToken(self._name(token).encode(), logprob, True)

    @staticmethod
    def _delta(output: Sampled, live: Live, text: str) -> list[Event]:
        tokens = None if live.held is None else live.held.deliver(text)
        if not text and not tokens:
            return []
        num_tokens = output.num_new_tokens - live.num_told_tokens
        live.num_told_tokens = output.num_new_tokens
        return [Delta(output.request_id, text, num_tokens, tokens)]


def drafts_of(use: DraftUse) -> Drafts:
    """The same as a message."""
    return Drafts(use.num_drafted, use.num_accepted, use.expected_ms, use.real_ms)
