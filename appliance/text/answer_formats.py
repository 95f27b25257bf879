"""The ways of writing answers that are known, and which of them a chat template shows.

Reads no answer.

Each entry is data: a new way is one more. What a template must contain to be recognized
is written as its author wrote it; the first entry that fits is taken, so that what is
more particular comes first.
"""

from __future__ import annotations

from appliance.text.answer_format import AnswerFormat
from appliance.text.calls.gemma_call import GemmaCall
from appliance.text.calls.json_call import JsonCall
from appliance.text.calls.named_json import NamedJson
from appliance.text.calls.named_parameters import NamedParameters
from appliance.text.calls.python_call import PythonCall, PythonTag
from appliance.text.calls.syntax import CallIds, CallSyntax
from appliance.text.channel_formats import Harmony, Recipients
from appliance.text.marked_format import MarkedFormat, ReasoningMarks

_HERMES = CallSyntax(
    begin="<tool_call>", body=JsonCall(), end="</tool_call>", lead="\n", trail="\n", between="\n"
)
_FUNCTION_XML = NamedParameters(
    before_name="<function=",
    after_name=">\n",
    open="<parameter=",
    after_key=">",
    close="</parameter>",
    padding="\n",
    close_all="</function>",
)
_QWEN_CODER = CallSyntax(
    begin="<tool_call>", body=_FUNCTION_XML, end="</tool_call>", lead="\n", trail="\n", between="\n"
)
_SEED = CallSyntax(
    begin="<seed:tool_call>",
    body=_FUNCTION_XML,
    end="</seed:tool_call>",
    lead="\n",
    trail="\n",
    between="\n",
)
_GLM = CallSyntax(
    begin="<tool_call>",
    body=NamedParameters(
        after_name="\n",
        open="<arg_key>",
        after_key="</arg_key>",
        open_value="<arg_value>",
        close="</arg_value>",
    ),
    end="</tool_call>",
    between="\n",
)
_MINIMAX = CallSyntax(
    begin='<invoke name="',
    body=NamedParameters(
        after_name='">\n', open='<parameter name="', after_key='">', close="</parameter>"
    ),
    end="</invoke>",
    section=("<minimax:tool_call>\n", "\n</minimax:tool_call>"),
    between="\n",
)


def _dsml(section: str) -> CallSyntax:
    return CallSyntax(
        begin='<｜DSML｜invoke name="',
        body=NamedParameters(
            after_name='">\n',
            open='<｜DSML｜parameter name="',
            after_key='"',
            close="</｜DSML｜parameter>",
            includes_type=True,
        ),
        end="</｜DSML｜invoke>",
        section=(f"<｜DSML｜{section}>\n", f"\n</｜DSML｜{section}>"),
        between="\n",
    )


_DEEPSEEK_SECTION = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_DEEPSEEK_R1 = CallSyntax(
    begin="<｜tool▁call▁begin｜>",
    body=NamedJson(before_name="function<｜tool▁sep｜>", after_name="\n```json\n"),
    end="<｜tool▁call▁end｜>",
    trail="\n```",
    section=_DEEPSEEK_SECTION,
    between="\n",
)
_DEEPSEEK_V3_1 = CallSyntax(
    begin="<｜tool▁call▁begin｜>",
    body=NamedJson(after_name="<｜tool▁sep｜>"),
    end="<｜tool▁call▁end｜>",
    section=_DEEPSEEK_SECTION,
)
_KIMI = CallSyntax(
    begin="<|tool_call_begin|>",
    body=NamedJson(
        before_name="functions.", after_name="<|tool_call_argument_begin|>", is_counted=True
    ),
    end="<|tool_call_end|>",
    section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    ids=CallIds.COUNTED,
)
_MISTRAL = CallSyntax(begin="[TOOL_CALLS]", body=JsonCall(), is_list=True, ids=CallIds.NINE)
_MISTRAL_NAMED = CallSyntax(
    begin="[TOOL_CALLS]",
    body=NamedJson(after_name="[ARGS]", other_mark="[CALL_ID]"),
    ids=CallIds.NINE,
)
_LLAMA = CallSyntax(begin="", body=JsonCall(arguments="parameters", only_known=True), between="; ")
_PYTHON_TAG = CallSyntax(begin="<|python_tag|>", body=PythonTag())
_FUNCTION_JSON = CallSyntax(begin="<function=", body=NamedJson(after_name=">"), end="</function>")
_GEMMA = CallSyntax(begin="<|tool_call>", body=GemmaCall(), end="<tool_call|>")
_GRANITE = CallSyntax(begin="<|tool_call|>", body=JsonCall(), is_list=True)
_LFM = CallSyntax(
    begin="<|tool_call_start|>", body=PythonCall(), end="<|tool_call_end|>", is_list=True
)
_NEMOTRON = CallSyntax(begin="<TOOLCALL>", body=JsonCall(), end="</TOOLCALL>", is_list=True)
_COMMAND_R = CallSyntax(
    begin="<|START_ACTION|>",
    body=JsonCall(name="tool_name", arguments="parameters"),
    end="<|END_ACTION|>",
    is_list=True,
)
_APRIEL = CallSyntax(begin="<tool_calls>", body=JsonCall(), end="</tool_calls>", is_list=True)
_FIREFUNCTION = CallSyntax(begin="functools", body=JsonCall(), is_list=True)

# What a template contains, and how calls are written then.
_CALLS: tuple[tuple[tuple[str, ...], tuple[CallSyntax, ...]], ...] = (
    (("<|tool_call>call:",), (_GEMMA,)),
    (("DSML", "function_calls"), (_dsml("function_calls"),)),
    (("DSML", "tool_calls"), (_dsml("tool_calls"),)),
    (("<seed:tool_call>",), (_SEED,)),
    (("<tool_call>", "<function="), (_QWEN_CODER,)),
    (("<tool_call>", "<arg_key>"), (_GLM,)),
    (("<minimax:tool_call>", "<invoke name="), (_MINIMAX,)),
    (("<|tool_call_begin|>", "<|tool_call_argument_begin|>"), (_KIMI,)),
    (("<｜tool▁call▁begin｜>", "```json"), (_DEEPSEEK_R1,)),
    (("<｜tool▁call▁begin｜>",), (_DEEPSEEK_V3_1,)),
    (("[TOOL_CALLS]", "[ARGS]"), (_MISTRAL_NAMED,)),
    (("[TOOL_CALLS]",), (_MISTRAL,)),
    (("<function=", "<|python_tag|>"), (_FUNCTION_JSON, _PYTHON_TAG)),
    (("<|tool_call_start|>",), (_LFM,)),
    (("<|tool_list_start|>",), (_LFM,)),
    (("<|START_ACTION|>",), (_COMMAND_R,)),
    (("<TOOLCALL>",), (_NEMOTRON,)),
    (("<|tool_call|>",), (_GRANITE,)),
    (("<tool_call>",), (_HERMES,)),
    (("<tool_calls>",), (_APRIEL,)),
    (("functools",), (_FIREFUNCTION,)),
    (('"parameters": ', "<|python_tag|>"), (_LLAMA, _PYTHON_TAG)),
    (("tools",), (_LLAMA, _HERMES)),  # not known how: as JSON, and with the commonest marks
)
_REASONING = (
    ReasoningMarks("<|channel>thought\n", "<channel|>"),
    ReasoningMarks("[THINK]", "[/THINK]"),
    ReasoningMarks("<seed:think>", "</seed:think>"),
    ReasoningMarks("<|START_THINKING|>", "<|END_THINKING|>"),
    ReasoningMarks("<think>", "</think>"),
)
# Around an answer's text, where a model that reasons says so.
_WRAPPERS = (
    ("<response>", "</response>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("[BEGIN FINAL RESPONSE]",),
)


def format_of(template: str) -> AnswerFormat:
    """The way in which a model with this chat template writes its answers."""
    if "<|channel|>analysis" in template:
        return Harmony()
    if ">>>" in template and "recipient" in template:
        return Recipients()
    calls = next(
        (calls for evidence, calls in _CALLS if all(text in template for text in evidence)), ()
    )
    reasoning = next((marks for marks in _REASONING if marks.end in template), None)
    dropped = next(
        (marks for marks in _WRAPPERS if reasoning and all(mark in template for mark in marks)), ()
    )
    return MarkedFormat(reasoning, calls, dropped)
