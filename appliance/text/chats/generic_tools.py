"""Functions for models whose chat template shows none: all of it in the messages' own text.

Knows no template and no model.

The form is Hermes', which most models that were trained to call functions have seen:
schemas in `<tools>`, calls in `<tool_call>`, what functions returned in
`<tool_response>`, in a message of the user. Source:
https://github.com/NousResearch/Hermes-Function-Calling
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from appliance.text.calls.json_call import JsonCall
from appliance.text.calls.named_json import NamedJson
from appliance.text.calls.python_call import PythonCall
from appliance.text.calls.syntax import CallSyntax

Message = Mapping[str, Any]

GENERIC_CALLS = CallSyntax(
    begin="<tool_call>", body=JsonCall(), end="</tool_call>", lead="\n", trail="\n", between="\n"
)
_WRITABLE = (JsonCall, NamedJson, PythonCall)
_NOBODY = "You are a helpful assistant."  # where there is no system message
_TOOLS = (
    "You can call functions to answer the user. Their signatures are in <tools></tools>:\n"
    "<tools>\n{tools}\n</tools>\n\n"
    "To call a function, write only a JSON object with its name and its arguments within "
    "<tool_call></tool_call>, like this:\n{example}\n\n"
    "What it returns comes within <tool_response></tool_response>."
)
_TOOLS_OF_OWN_CALLS = (
    "## Tools\nYou have access to the following tools:\n\n{tools}\n\n"
    "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n{example}"
)


def with_described_tools(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], calls: CallSyntax
) -> list[Message]:
    """With `tools`, and how to write a call in the form of `calls`, in the system message,
    which is added where there is none.
    """
    example = written_calls(calls, [("FUNCTION_NAME", '{"PARAMETER_NAME": "VALUE"}')])
    described = (
        _TOOLS.format(tools="\n".join(map(_as_json, tools)), example=example)
        if calls is GENERIC_CALLS
        else _TOOLS_OF_OWN_CALLS.format(tools="\n\n".join(map(_as_text, tools)), example=example)
    )
    first = next(iter(messages), None)
    if first is not None and first["role"] == "system":
        said, rest = first["content"], messages[1:]
    else:
        said, rest = _NOBODY, messages
    return [{"role": "system", "content": f"{said}\n\n{described}"}, *rest]


def _as_json(tool: Mapping[str, Any]) -> str:
    return json.dumps(tool["function"], ensure_ascii=False)


def _as_text(tool: Mapping[str, Any]) -> str:
    """As DeepSeek describes them: https://huggingface.co/deepseek-ai/DeepSeek-V3.1"""
    function = tool["function"]
    parameters = json.dumps(function.get("parameters") or {}, ensure_ascii=False)
    return (
        f"### {function['name']}\nDescription: {function.get('description') or ''}\n\n"
        f"Parameters: {parameters}"
    )


def with_written_calls(messages: Sequence[Message], syntax: CallSyntax) -> list[Message]:
    """With calls as text in the form of `syntax`. Raises `ValueError` for arguments that
    cannot be written in it.
    """
    return [_with_written_calls(message, syntax) for message in messages]


def in_words(messages: Sequence[Message]) -> list[Message]:
    """With calls and what they returned as text; results in the order of their calls, in
    one message of the user together with what the user says next.

    So roles alternate wherever they did before.
    """
    return [*_merged(_told(messages))]


def _told(messages: Sequence[Message]) -> Iterator[Message]:
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if message["role"] != "tool":
            yield _with_written_calls(message, GENERIC_CALLS)
            continue
        results = [message]
        while at < len(messages) and messages[at]["role"] == "tool":
            results.append(messages[at])
            at += 1
        calls = _last_calls(messages[: at - len(results)])
        results.sort(key=lambda result: _place(result, calls))
        yield {
            "role": "user",
            "content": "\n".join(
                f"<tool_response>\n{result['content'] or ''}\n</tool_response>"
                for result in results
            ),
            "is_result": True,
        }


def _merged(messages: Iterator[Message]) -> Iterator[Message]:
    """Without the marks of results, each joined with the user's message behind it."""
    held: Message | None = None
    for message in messages:
        if held is not None and message["role"] == "user" and not message.get("is_result"):
            yield {**message, "content": f"{held['content']}\n\n{message['content']}"}
            held = None
            continue
        if held is not None:
            yield held
            held = None
        if message.get("is_result"):
            held = {name: value for name, value in message.items() if name != "is_result"}
        else:
            yield message
    if held is not None:
        yield held


def _with_written_calls(message: Message, syntax: CallSyntax) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message
    functions = [call["function"] for call in calls]
    written = written_calls(
        syntax, [(each["name"], each["arguments"] or "{}") for each in functions]
    )
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return {**rest, "content": "\n".join(filter(None, [message.get("content"), written]))}


def _last_calls(messages: Sequence[Message]) -> list[str]:
    """Ids of the calls that results behind `messages` belong to."""
    last = messages[-1] if messages else {}
    return [call["id"] for call in last.get("tool_calls") or ()]


def _place(result: Message, calls: Sequence[str]) -> int:
    own = result.get("tool_call_id")
    return calls.index(own) if own in calls else len(calls)


def can_write(syntax: CallSyntax) -> bool:
    """Whether `written_calls` knows the form."""
    return bool(syntax.begin) and isinstance(syntax.body, _WRITABLE)


def written_calls(syntax: CallSyntax, calls: Sequence[tuple[str, str]]) -> str:
    """Calls as a model writes them, of names and arguments as JSON text."""
    begin, end = syntax.begin + syntax.lead, syntax.trail + syntax.end
    body = syntax.body
    assert isinstance(body, _WRITABLE), "checked by `can_write`"
    written = [body.written(name, arguments) for name, arguments in calls]
    inner = (
        f"{begin}[{', '.join(written)}]{end}"
        if syntax.is_list
        else syntax.between.join(f"{begin}{one}{end}" for one in written)
    )
    return syntax.section[0] + inner + syntax.section[1]
