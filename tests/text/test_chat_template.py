"""Chat templates: rendered
as Hugging Face renders them, sandboxed, with clear refusals.
"""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from appliance.errors import TemplateFailed
from appliance.text.chat_template import ChatTemplate

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\n' }}{% endif %}"
)


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, special=SPECIAL, now=lambda: datetime.datetime(2026, 11, 22))  # noqa: DTZ001 - as local


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_chatml_ends_where_the_answer_begins() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *user("Hi")]
    assert template(CHATML).render(messages) == (
        "<|im_start|>system\nBe "
        "brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>x<y></s>"),
        ("a{% generation %}{{ messages[0].content }}{%- endgeneration %}b", "ax<y>b"),
        ("  {% if true %}\na\n  {% endif %}\nb", "a\nb"),  # trim_blocks and lstrip_blocks
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{{ {'k': 'é<'} | tojson }}", '{"k": "é<"}'),
        ("{{ strftime_now('%d %b %Y') }}", "22 Nov 2026"),
        ("{{ undefined_thing }}", ""),
    ],
)
def test_the_environment_is_that_of_hugging_face(source: str, rendered: str) -> None:
    assert template(source).render(user("x<y>")) == rendered


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "{{ raise_exception('Only user and assistant roles!') }}",
            "Only user and assistant roles!",
        ),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ messages[5].content.strip() }}", "undefined|no element"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% for i in range(10000000) %}{% endfor %}", "too big|range"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "rendered more than"),
    ],
)
def test_what_a_template_must_not_do_is_a_clear_error(source: str, says: str) -> None:
    with pytest.raises(TemplateFailed, match=f"(?i){says}"):
        template(source).render(user("x"))


def test_a_template_may_change_what_it_is_given_which_is_a_copy() -> None:
    messages = user("x")
    changing = template(
        "{% set own = [] %}{% set _ = own.append(messages | length) %}"
        "{% set _ = messages.append(1) %}{% set _ = messages[0].update(content='y') %}"
        "{{ own }}{{ messages[0].content }}{{ messages | length }}"
    )
    assert [changing.render(messages) for _ in range(2)] == ["[1]y2", "[1]y2"]
    assert messages == user("x")


TOOL = {
    "type": "function",
    "function": {
        "name": "note",
        "description": "Keeps it.",
        "parameters": {"type": "object", "properties": {"text": {"type": ["string", "null"]}}},
    },
}


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        # what is missing is shown as nothing
        ("{{ 'a' + messages[0].name + 'b' }}", "ab"),
        ("{{ messages[0].a.b }}|{{ messages[0].a['b'] }}", "|"),
        ("{% for one in documents %}{{ one }}{% endfor %}x", "x"),
        ("{{ messages[1].content + '|' + messages[0].content }}", "|x"),  # its content is null
        # schemas in simple words, only where others do not do
        ("{{ tools[0].function.parameters.properties.text.type }}", "['string', 'null']"),
        ("{{ 'a ' + tools[0].function.parameters.properties.text.type }}", "a string"),
        ("{{ 'a ' + tools[0].function.parameters.properties.text.description }}|", "a |"),
        # JSON of what is a list elsewhere
        ("{{ tools | map(attribute='type') | tojson }}", '["function"]'),
    ],
)
def test_what_breaks_is_rendered_as_elsewhere(source: str, rendered: str) -> None:
    messages = [*user("x"), {"role": "assistant", "content": None}]
    assert template(source).render(messages, tools=[TOOL]) == rendered


def test_what_breaks_in_every_way_is_told_as_it_broke_first() -> None:
    with pytest.raises(
        TemplateFailed, match=r"TypeError: can only concatenate str \(not \"int\"\)"
    ):
        template("{{ documents | length }}{{ messages[0].content + 1 }}").render(
            user("x"), arguments={"documents": []}
        )


def test_a_broken_template_says_so() -> None:
    with pytest.raises(TemplateFailed, match="not valid Jinja"):
        template("{% for %}")
