"""The text side of requests in the engine: their sampled tokens become events.

Knows no thread, no channel and no llama.cpp.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from appliance.engine.drafting.drafter import DraftUse
from appliance.engine.outputs import Broken, Output, Sampled
from appliance.engine.scoring import Prefilled, ScoredToken
from appliance.protocol.events import (
    Delta,
    Drafts,
    Event,
    Failed,
    Finished,
    FinishReason,
    LikelyToken,
    SampledToken,
    Stages,
    Started,
    ToolCallPart,
    Usage,
)
from appliance.protocol.requests import ChatPrompt, GenerateRequest
from appliance.text.answer import Answer
from appliance.text.answer_parser import AnswerParser
from appliance.text.answer_parts import (
    CallArguments,
    CallBegun,
    CallEnded,
    Part,
    Reasoning,
    Text,
    joined,
)
from appliance.text.line_limits import LineLimits
from appliance.worker.child.outputs.call_ids import new_call_id
from appliance.worker.child.outputs.held_tokens import HeldTokens
from appliance.worker.child.outputs.live_output import LiveOutput, OutputTimer


class TextOutputs:
    """The output of every request in the engine,
    as text and what else it consists of.
    """

    def __init__(
        self,
        piece: Callable[[int], bytes],
        finish: Callable[[int], None],
        name: Callable[[int], str] = str,
        clock: Callable[[], float] = time.monotonic,
        text_pieces: Callable[[Sequence[int]], list[bytes]] | None = None,
        *,
        adds_space_prefix: bool = False,
    ) -> None:
        """`piece` gives a token's text, `name` how a control token, which has none, is
        written; `clock` is in s.

        `text_pieces` are what the tokens of a prompt bring to its text. With
        `adds_space_prefix`, texts are tokenized with a space in front of them, so that a
        model writes one there too.
        """
        self._clock = clock
        self._piece = piece
        self._text_pieces = text_pieces or (lambda tokens: [*map(piece, tokens)])
        self._adds_space_prefix = adds_space_prefix
        self._name = name
        self._finish = finish
        self._live: dict[int, LiveOutput] = {}

    def start(
        self,
        request_id: int,
        prompt: Sequence[int],
        request: GenerateRequest,
        parser: AnswerParser | None = None,
        unenforced: Sequence[str] = (),
        end_of_turn: str = "",
        *,
        repeats: bool = False,
    ) -> Event:
        """`prompt` is the request's, as tokens; `parser` tells apart what the answer
        consists of: without one it is text. `unenforced` is said in `Started`.
        `end_of_turn` ends the answer: a text, or a special token's name. `repeats`: it
        follows from the request alone, whatever is computed beside it.
        """
        is_own = bool(end_of_turn) and end_of_turn not in request.stop
        stop = [*request.stop, end_of_turn] if is_own else request.stop
        answer = Answer(stop, parser, self._limits(request), request.sampling.min_tokens)
        live = LiveOutput(
            answer=answer,
            parser=parser,
            num_prompt_tokens=len(prompt),
            several_calls=request.tool_calls.several,
            drops_space=self._adds_space_prefix and _is_own_text(request),
            repeats=repeats,
        )
        if request.scores_prompt:
            live.echoed = iter(self._text_pieces(prompt))
        live.end_of_turn = end_of_turn if is_own else ""
        if request.includes_times or request.reports_progress:
            live.timer = OutputTimer(self._clock)
        live.includes_times = request.includes_times
        live.token_ids = [] if request.reports_tokens else None
        live.reports_usage = request.reports_usage
        live.reports_progress = request.reports_progress
        live.includes_end_token = request.scores_prompt or request.reports_tokens
        live.is_reasoning = parser is not None and parser.begins_with_reasoning
        self._live[request_id] = live
        prompt_token_ids = list(prompt) if request.reports_prompt_tokens else []
        return Started(request_id, len(prompt), list(unenforced), prompt_token_ids)

    def _limits(self, request: GenerateRequest) -> LineLimits | None:
        if not request.min_indent and request.max_text_ms is None:
            return None
        max_s = None if request.max_text_ms is None else request.max_text_ms / 1000
        return LineLimits(request.min_indent, max_s, self._clock)

    def drop(self, request_id: int) -> None:
        self._live.pop(request_id, None)

    def events(self, outputs: list[Output]) -> list[Event]:
        events: list[Event] = []
        for output in outputs:
            if isinstance(output, Broken):
                self.drop(output.request_id)
                events.append(Failed(output.request_id, output.error.record()))
            elif (
                output.request_id in self._live
            ):  # else a stop string was found before this token of the same step
                events.extend(
                    self._prefilled(output)
                    if isinstance(output, Prefilled)
                    else self._sampled(output)
                )
        return events

    def _prefilled(self, output: Prefilled) -> list[Event]:
        """The prompt's own tokens, as they are scored."""
        live = self._live[output.request_id]
        text = "".join(self._echo(live, scored) for scored in output.scored)
        if output.finish_reason is not None:
            text += "".join(part.text for part in live.answer.flush() if isinstance(part, Text))
        tokens = None if live.held is None else live.held.deliver(text)
        progress = live.progress(output)
        delta = Delta(
            request_id=output.request_id, text=text, num_tokens=0, tokens=tokens, progress=progress
        )
        deltas: list[Event] = [delta] if text or tokens or progress is not None else []
        if output.finish_reason is None:
            return deltas
        del self._live[output.request_id]
        usage = Usage(
            num_prompt_tokens=live.num_prompt_tokens,
            num_cached_tokens=output.num_cached_tokens,
            num_moved_tokens=output.num_moved_tokens,
            num_completion_tokens=0,
            times=live.times(),
        )
        return [
            *deltas,
            Finished(
                request_id=output.request_id,
                reason=output.finish_reason,
                usage=usage,
                stages=_stages(output),
            ),
        ]

    def _echo(self, live: LiveOutput, scored: ScoredToken) -> str:
        piece = next(live.echoed)
        live.held = live.held or HeldTokens()
        top = (
            []
            if scored.logprobs is None
            else [self._likely(*likely) for likely in scored.logprobs.top]
        )
        logprob = None if scored.logprobs is None else scored.logprobs.chosen
        live.held.add(piece, self._as_written(scored.token, logprob, piece), top)
        return live.answer.echo(piece)

    def _sampled(self, output: Sampled) -> list[Event]:
        live = self._live[output.request_id]
        if live.timer is not None:
            live.timer.note_token()
        if live.token_ids is not None:
            live.token_ids.append(output.token)
        reason = output.finish_reason
        parts = (
            self._end_token(live, output)
            if reason is FinishReason.STOP
            else self._feed(live, output)
        )
        if live.is_over:
            if reason is None:
                self._finish(output.request_id)
            reason = FinishReason.LENGTH if live.answer.is_cut else FinishReason.STOP
        elif reason is not None:
            rest = live.answer.flush(is_cut=reason is FinishReason.LENGTH)
            parts = live.up_to_only_call(joined([*parts, *rest]))
        deltas = self._deltas(output, live, parts, is_last=reason is not None)
        if reason is None:
            return deltas
        del self._live[output.request_id]
        usage = Usage(
            num_prompt_tokens=live.num_prompt_tokens,
            num_cached_tokens=output.num_cached_tokens,
            num_moved_tokens=output.num_moved_tokens,
            num_completion_tokens=output.num_new_tokens,
            num_discarded_tokens=output.num_discarded_tokens,
            num_reasoning_tokens=live.num_reasoning_tokens,
            drafts=None if output.drafts is None else drafts_of(output.drafts),
            times=live.times(),
        )
        return [
            *deltas,
            Finished(
                request_id=output.request_id,
                reason=reason,
                usage=usage,
                has_tool_calls=live.num_calls > 0,
                stop_string=live.stop_string,
                stages=_stages(output),
                repeats=(live.repeats or output.is_repeatable) and not output.num_discarded_tokens,
            ),
        ]

    def _end_token(self, live: LiveOutput, output: Sampled) -> list[Part]:
        """No part of the answer; with a scored prompt it is emitted, so that all tokens
        are: harnesses count on it.
        """
        if live.includes_end_token:
            self._hold(live, output, b"")
        return []

    def _hold(self, live: LiveOutput, output: Sampled, piece: bytes) -> None:
        """Until its text is emitted: a token's log-probabilities, where those are asked
        for.
        """
        logprobs = output.logprobs
        if logprobs is None:
            return
        live.held = live.held or HeldTokens()
        chosen = self._as_written(output.token, logprobs.chosen, piece)
        live.held.add(piece, chosen, [self._likely(*likely) for likely in logprobs.top])

    def _feed(self, live: LiveOutput, output: Sampled) -> list[Part]:
        piece = self._piece(output.token)
        if not piece and live.shows(name := self._name(output.token)):
            piece = name.encode()
        if live.drops_space and piece:
            live.drops_space = False
            piece = piece.removeprefix(b" ")
        self._hold(live, output, piece)
        parts = live.up_to_only_call(live.answer.feed(piece))
        if parts:
            live.is_reasoning = isinstance(parts[-1], Reasoning)
        live.num_reasoning_tokens += live.is_reasoning
        return parts

    def _as_written(self, token: int, logprob: float | None, piece: bytes) -> LikelyToken:
        """A token of the text, to which it brings `piece`: what all of them bring is the
        text.
        """
        if not self._piece(token):
            return self._likely(token, logprob)
        return LikelyToken(piece, logprob, id=token)

    def _likely(self, token: int, logprob: float | None) -> LikelyToken:
        piece = self._piece(token)
        return (
            LikelyToken(piece, logprob, id=token)
            if piece
            else LikelyToken(self._name(token).encode(), logprob, True, token)
        )

    def _deltas(
        self, output: Sampled, live: LiveOutput, parts: Sequence[Part], *, is_last: bool
    ) -> list[Event]:
        """One for each part, the first with what is to be reported of tokens."""
        tokens = _due_tokens(live, parts)
        deltas = [
            delta for part in parts if (delta := _delta(output.request_id, live, part)) is not None
        ]
        if (tokens or (is_last and live.token_ids)) and not deltas:
            deltas = [Delta(request_id=output.request_id, text="", num_tokens=0)]
        if not deltas:
            return []
        num_tokens = output.num_new_tokens - live.num_emitted_tokens
        live.num_emitted_tokens = output.num_new_tokens
        first = deltas[0]
        return [
            Delta(
                request_id=first.request_id,
                text=first.text,
                num_tokens=num_tokens,
                tokens=tokens,
                reasoning=first.reasoning,
                tool_call=first.tool_call,
                usage=live.usage(output.num_new_tokens, output.num_cached_tokens),
                token_ids=live.take_token_ids(),
            ),
            *deltas[1:],
        ]


def _stages(output: Sampled | Prefilled) -> Stages | None:
    return None if output.times is None else output.times.stages()


def _is_own_text(request: GenerateRequest) -> bool:
    """Whether the answer is a text that begins anew, and not bound to a form."""
    prompt = request.prompt
    return (
        isinstance(prompt, ChatPrompt)
        and not prompt.continue_final_message
        and request.grammar is None
    )


def _due_tokens(live: LiveOutput, parts: Sequence[Part]) -> list[SampledToken] | None:
    """The tokens that may be emitted with `parts`."""
    if live.held is None:
        return None
    if live.parser is None:
        return live.held.deliver("".join(part.text for part in parts if isinstance(part, Text)))
    return [] if live.answer.holds_text or live.answer.stopped else live.held.deliver_all()


def _delta(request_id: int, live: LiveOutput, part: Part) -> Delta | None:
    if isinstance(part, Text):
        return Delta(request_id=request_id, text=part.text, num_tokens=0)
    if isinstance(part, Reasoning):
        return Delta(request_id=request_id, text="", num_tokens=0, reasoning=part.text)
    if isinstance(part, CallEnded):
        return None
    if isinstance(part, CallArguments):
        return Delta(
            request_id=request_id,
            text="",
            num_tokens=0,
            tool_call=ToolCallPart(live.num_calls - 1, part.text),
        )
    return Delta(request_id=request_id, text="", num_tokens=0, tool_call=_opened_call(live, part))


def _opened_call(live: LiveOutput, part: CallBegun) -> ToolCallPart:
    assert live.parser is not None, "without one there are no calls"
    live.num_calls += 1
    index = live.num_calls - 1
    return ToolCallPart(index, "", new_call_id(live.parser.call_ids, part.name, index), part.name)


def drafts_of(use: DraftUse) -> Drafts:
    """The same as a message."""
    return Drafts(use.num_drafted, use.num_accepted, use.expected_ms, use.real_ms)
