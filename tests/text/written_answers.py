"""Answers as models write them, and what they consist of.

One entry per way of writing, for several tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.text.answer_format import Opening
from appliance.text.answer_parts import CallArguments, CallBegun, CallEnded, Part, Reasoning, Text
from appliance.text.calls.syntax import Tool

WEATHER = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"enum": ["C", "F"]},
        },
        "required": ["city", "days"],
    },
)
NOTE = Tool(
    "note",
    {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["text"],
    },
)
CLOCK = Tool("clock", {"type": "object", "properties": {}})
TOOLS = {tool.name: tool for tool in (WEATHER, NOTE, CLOCK)}


def call(name: str, arguments: str) -> list[Part]:
    return [CallBegun(name), CallArguments(arguments), CallEnded()]


PARIS = call("get_weather", '{"city": "Paris", "days": 3}')
NOTED = call("note", '{"text": "a \\"b\\" {c}", "tags": ["x", "y"]}')


@dataclass(frozen=True)
class Written:
    """`evidence` is what of a chat template shows this way of writing."""

    name: str
    evidence: str
    answer: str
    parts: list[Part]
    opening: Opening = Opening.FRESH


_THINK = "tools </think> "
_HERMES = "<tool_call> " + _THINK
_CODER = "<tool_call> <function= " + _THINK
_DS = "<｜tool▁call▁begin｜> " + _THINK
_HARMONY = "tools <|channel|>analysis"
_FUNCTIONARY = "tools >>>${recipient}"

WRITTEN = [
    Written(
        "text",
        _HERMES,
        "Hello <b>, a < b\n\n and 1 <tool",
        [Text("Hello <b>, a < b\n\n and 1 <tool")],
    ),
    Written(
        "reasoning",
        _HERMES,
        "<think>\nHm, <ok>.\n</think>\n\nHello",
        [Reasoning("Hm, <ok>."), Text("Hello")],
    ),
    Written("reasoning, nothing", _HERMES, "<think>\n\n</think>\n\nHello\n", [Text("Hello\n")]),
    Written(
        "reasoning, begun",
        _HERMES,
        "Hm\n</think>Hi",
        [Reasoning("Hm"), Text("Hi")],
        opening=Opening.REASONING,
    ),
    Written("reasoning, never ended", _HERMES, "<think>Hm, so", [Reasoning("Hm, so")]),
    Written(
        "reasoning, in text", _HERMES, "The tag <think> it is", [Text("The tag <think> it is")]
    ),
    Written("no reasoning", _HERMES, "<think>x", [Text("<think>x")], opening=Opening.ANSWERING),
    Written(
        "hermes",
        _HERMES,
        'Well.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": '
        "3}}\n</tool_call>",
        [Text("Well."), *PARIS],
    ),
    Written(
        "hermes, reasoning, two calls, text behind",
        _HERMES,
        '<think>\nI call.\n</think>\n\n<tool_call>\n{"name": "get_weather", "arguments": '
        '{"city": "Paris", "days": 3}}\n'
        '</tool_call>\n<tool_call>\n{"arguments": {"text": "a \\"b\\" {c}", "tags": ["x", "y"]}, '
        '"name": "note"}\n'
        "</tool_call>\nDone.",
        [Reasoning("I call."), *PARIS, *NOTED, Text("Done.")],
    ),
    Written(
        "hermes, sloppy",
        _HERMES,
        '<tool_call>{"name":"get_weather","parameters":"{\\"city\\": \\"Paris\\", \\"days\\": '
        '3}"}}</tool_call>',
        PARIS,
    ),
    Written(
        "hermes, no arguments",
        _HERMES,
        '<tool_call>\n{"name": "clock"}\n</tool_call>',
        call("clock", "{}"),
    ),
    Written(
        "hermes, spoken of",
        _HERMES,
        "It writes <tool_call> and </b> {x}.",
        [Text("It writes <tool_call> and </b> {x}.")],
    ),
    Written(
        "hermes, spoken of, then called",
        _HERMES,
        '<tool_call><tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>',
        [Text("<tool_call>"), *call("clock", "{}")],
    ),
    Written(
        "qwen coder",
        _CODER,
        "Sure.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        [Text("Sure."), *PARIS],
    ),
    Written(
        "qwen coder, text of several lines",
        _CODER,
        '<tool_call>\n<function=note>\n<parameter=text>\na "b"\n </p>\n\n</parameter>\n'
        '<parameter=tags>\n["x"]\n</parameter>\n<parameter=more>\nTrue\n</parameter>\n'
        "</function>\n</tool_call>",
        call("note", '{"text": "a \\"b\\"\\n </p>\\n", "tags": ["x"], "more": true}'),
    ),
    Written(
        "glm",
        "<tool_call> <arg_key> " + _THINK,
        "<think>Hm</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n"
        "<arg_value>Paris</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
        [Reasoning("Hm"), *PARIS],
    ),
    Written(
        "glm, in one line",
        "<tool_call> <arg_key> " + _THINK,
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value>"
        "<arg_key>days</arg_key><arg_value>3</arg_value></tool_call><tool_call>clock</tool_call>",
        [*PARIS, *call("clock", "{}")],
    ),
    Written(
        "minimax",
        "<minimax:tool_call> <invoke name= tools",
        'Ok\n<minimax:tool_call>\n<invoke name="get_weather">\n<parameter '
        'name="city">Paris</parameter>\n<parameter name="days">3</parameter>\n</invoke>\n<invoke '
        'name="clock">\n</invoke>\n</minimax:tool_call>',
        [Text("Ok"), *PARIS, *call("clock", "{}")],
    ),
    Written(
        "deepseek v3.2",
        "DSML function_calls " + _THINK,
        '</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        PARIS,
        opening=Opening.REASONING,
    ),
    Written(
        "deepseek v3.1",
        _DS,
        "So</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        '{"city": "Paris", "days": 3}<｜tool▁call▁end｜>'
        "<｜tool▁call▁begin｜>clock<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [Reasoning("So"), *PARIS, *call("clock", "{}")],
        opening=Opening.REASONING,
    ),
    Written(
        "deepseek r1",
        "```json " + _DS,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "Paris", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        PARIS,
    ),
    Written(
        "kimi",
        "<|tool_call_begin|> <|tool_call_argument_begin|> tools",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Paris", "days": 3}'
        "<|tool_call_end|><|tool_calls_section_end|>",
        PARIS,
    ),
    Written(
        "mistral nemo",
        "[TOOL_CALLS] tools",
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}, "id": '
        '"abcdef123"}, {"name": "clock", "arguments": {}}]',
        [*PARIS, *call("clock", "{}")],
    ),
    Written(
        "mistral, named",
        "[TOOL_CALLS] [ARGS] [/THINK] tools",
        '[THINK]Hm[/THINK]Well[TOOL_CALLS]get_weather[ARGS]{"city": "Paris", "days": 3}'
        "[TOOL_CALLS]clock[CALL_ID]123456789[ARGS]{}",
        [Reasoning("Hm"), Text("Well"), *PARIS, *call("clock", "{}")],
    ),
    Written(
        "llama",
        '"parameters": <|python_tag|> tools',
        '{"name": "get_weather", "parameters": {"city": "Paris", "days": 3}}',
        PARIS,
    ),
    Written(
        "llama, as it also does",
        '"parameters": <|python_tag|> tools',
        ' {"type": "function", "function": {"name": "get_weather", "parameters": {"city": '
        '"Paris", "days": 3}}}; {"name": "clock", "parameters": {}}',
        [*PARIS, *call("clock", "{}")],
    ),
    Written(
        "llama, other JSON",
        '"parameters": <|python_tag|> tools',
        ' {"name": "Ann", "parameters": 3} is it',
        [Text(' {"name": "Ann", "parameters": 3} is it')],
    ),
    Written(
        "llama, built in",
        '"parameters": <|python_tag|> tools',
        "<|python_tag|>brave_search.call(query=\"a, b\", k='x')",
        call("brave_search", '{"query": "a, b", "k": "x"}'),
    ),
    Written(
        "llama, code",
        '"parameters": <|python_tag|> tools',
        '<|python_tag|>print("a")\n',
        call("python", '{"code": "print(\\"a\\")\\n"}'),
    ),
    Written(
        "functionary v3.1",
        "<function= <|python_tag|> tools",
        'Well<function=get_weather>{"city": "Paris", "days": '
        "3}</function>\n<function=clock>{}</function>",
        [Text("Well"), *PARIS, *call("clock", "{}")],
    ),
    Written("functionary v3.2, text", _FUNCTIONARY, "all\nHello\n", [Text("Hello\n")]),
    Written(
        "functionary v3.2",
        _FUNCTIONARY,
        'all\nHello>>>get_weather\n{"city": "Paris", "days": 3}>>>clock\n{}',
        [Text("Hello"), *PARIS, *call("clock", "{}")],
    ),
    Written(
        "gemma",
        "<|tool_call>call: <channel|> tools",
        "<|channel>thought\nHm<channel|>Ok"
        '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:3}<tool_call|>',
        [Reasoning("Hm"), Text("Ok"), *PARIS],
    ),
    Written(
        "gemma, nested",
        "<|tool_call>call: <channel|> tools",
        '<|tool_call>call:note{tags:[<|"|>x<|"|>,<|"|>a '
        '"b"<|"|>],deep:{<|"|>k<|"|>:true,e:[]},word:hello}<tool_call|>',
        call("note", '{"tags": ["x", "a \\"b\\""], "deep": {"k": true, "e": []}, "word": "hello"}'),
    ),
    Written(
        "granite",
        "<|tool_call|> <response> </response> " + _THINK,
        '<think>Hm</think><response>Ok</response><|tool_call|>[{"name": "get_weather", '
        '"arguments": {"city": "Paris", "days": 3}}]',
        [Reasoning("Hm"), Text("Ok"), *PARIS],
    ),
    Written(
        "lfm",
        "<|tool_call_start|> tools",
        '<|tool_call_start|>[get_weather(city="Paris", days=3), '
        "note(text='a \"b\" {c}', tags=[\"x\", 'y'])]"
        "<|tool_call_end|>Now",
        [*PARIS, *NOTED, Text("Now")],
    ),
    Written(
        "harmony",
        _HARMONY,
        "<|channel|>analysis<|message|>Hm<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json"
        '<|message|>{"city": "Paris", "days": 3}<|call|>',
        [Reasoning("Hm"), Text("I look."), *PARIS],
    ),
    Written(
        "harmony, recipient first",
        _HARMONY,
        "<|start|>assistant to=functions.clock<|channel|>commentary json<|message|>{}",
        call("clock", "{}"),
    ),
    Written(
        "harmony, text",
        _HARMONY,
        "<|channel|>analysis<|message|>Hm<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Hello\n",
        [Reasoning("Hm"), Text("Hello\n")],
    ),
]
