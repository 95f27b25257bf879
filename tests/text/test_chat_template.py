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
        ("{{ messages.append(1) }}", "unsafe|not callable|safely"),
        ("{% for i in range(10000000) %}{% endfor %}", "too big|range"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "rendered more than"),
    ],
)
def test_what_a_template_must_not_do_is_a_clear_error(source: str, says: str) -> None:
    with pytest.raises(TemplateFailed, match=f"(?i){says}"):
        template(source).render(user("x"))


def test_a_broken_template_says_so() -> None:
    with pytest.raises(TemplateFailed, match="not valid Jinja"):
        template("{% for %}")
