"""A template written to do harm costs the request that meets it, and nothing else."""

from __future__ import annotations

import datetime
import gc
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from appliance.errors import TemplateFailed
from appliance.text import chat_template
from appliance.text.chat_template import QUICK_CPU_S, ChatTemplate, TemplateTooSlow
from appliance.text.rendering.frames import MAX_MEMORY_BYTES

MESSAGES = [{"role": "user", "content": "x"}]
GOOD = "{% if attack is defined %}{{ 'x' * attack }}{% endif %}{{ messages[0].content }}"

TIME = "took more than 0.1 s of processor time on these messages, and was stopped"
MEMORY = "needed more than 512 MiB of memory"
LENGTH = "rendered more than 16777216 characters"
EITHER = f"{TIME}|{MEMORY}"


def template(source: str, **limits: float) -> ChatTemplate:
    return ChatTemplate(
        source,
        special={},
        now=lambda: datetime.datetime(2026, 11, 22),  # noqa: DTZ001 - as local
        **limits,
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        # those that were found
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", TIME),
        ("{{ ('x' * 10**11) | length }}", MEMORY),
        ("{% set n = messages | length + 8 %}{{ n ** (n ** n) }}", TIME),
        # loops
        ("{% for i in lipsum(10**7) %}{% endfor %}", EITHER),
        ("{% set l = cycler(1, 2) %}{% for i in range(99999) recursive %}{{ loop(range(99999)) }}"
         "{% endfor %}", "RecursionError|took more"),
        ("{% set ns = namespace(n=0) %}{% for i in range(99999) %}{% for j in range(99999) %}"
         "{% set ns.n = ns.n + 1 %}{% endfor %}{% endfor %}", TIME),
        ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "RecursionError"),
        ("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
         "{{ m(60) }}", TIME),
        # memory
        ("{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}"
         "{% endfor %}", EITHER),
        ("{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}"
         "{% endfor %}", EITHER),
        ("{{ [0] * 10**10 }}", MEMORY),
        ("{{ ((1, 2) * 10**10) | list | length }}", MEMORY),
        ("{{ '%999999999d' % 1 }}", MEMORY),
        ("{{ '{:>9999999999}'.format('x') | length }}", MEMORY),
        ("{{ 'x' | center(10**10) }}", MEMORY),
        ("{{ 'x'.ljust(10**10) }}", MEMORY),
        ("{{ '' | join }}{{ ('x' * 10**5).join(['y'] * 10**5) | length }}", MEMORY),
        ("{{ ('x' * 10**5).replace('x', 'y' * 10**5) | length }}", MEMORY),
        ("{{ ('x' * 10**5) | replace('x', 'y' * 10**5) | length }}", MEMORY),
        ("{{ ('a\n' * 10**5 * attacks) | indent(10**5) | length }}", EITHER),
        ("{{ 'x'.encode('utf-8') * 10**10 }}", MEMORY),
        ("{{ (1).to_bytes(10**10, 'big') | length }}", MEMORY),
        # filters
        ("{% for i in range(99999) | batch(1) %}{{ range(99999) | list | length }}{% endfor %}",
         TIME),
        ("{{ [1] | batch(10**9, 'x') | list | length }}", EITHER),
        ("{{ range(99999) | slice(10**9) | list | length }}", EITHER),
        ("{{ range(99999) | map('string') | map('center', 10**5) | list | length }}", EITHER),
        ("{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}", TIME),
        ("{% for i in range(99999) %}{{ ('<' * 10**6 * attacks) | striptags | length }}"
         "{% endfor %}", TIME),
        ("{% for i in range(99999) %}{{ ('a.' * 10**6 * attacks) | urlize | length }}"
         "{% endfor %}", TIME),
        ("{{ ('a ' * 10**7 * attacks) | wordwrap(1) | length }}", EITHER),
        ("{% for i in range(99999) %}{{ ('[' * 10**6 * attacks) | tojson | length }}"
         "{% endfor %}", TIME),
        # numbers
        ("{{ (10**4000 * 10**attacks * 10**999) | string }}", "ValueError: Exceeds the limit"),
        ("{% set n = messages | length %}{{ (n + 9) ** (n + 10**8) }}", EITHER),
        ("{{ messages | length * 2.0 ** 99999 }}", "OverflowError"),
        # length
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", LENGTH),
        ("{{ 'x' * 2**24 }}y", LENGTH),
        # what is not there
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% import '/etc/passwd' as p %}", "no loader"),
        ("{% extends '/etc/passwd' %}", "no loader"),
        ("{{ cycler.__init__.__globals__.os.kill(1, 9) }}", "unsafe"),
    ],
)  # fmt: skip
def test_an_attack_is_stopped_and_the_next_request_is_rendered(source: str, says: str) -> None:
    attacked = template(f"{{% if attacks %}}{source}{{% endif %}}ok")
    with pytest.raises(TemplateFailed, match=says) as raised:
        attacked.render(MESSAGES, arguments={"attacks": True}, cpu_s=QUICK_CPU_S)
    assert (raised.value.status, raised.value.param) == (400, "messages")
    assert attacked.render(MESSAGES) == "ok"


@pytest.mark.parametrize(
    "source",
    [
        "{{ 9**(9**9) }}",
        "{% if false %}{{ 9**(9**9) }}{% endif %}",
        "{{ (9**(9**9)) | string | length }}",
        "{% set x = 9**(9**9) %}",
        "{{ (2**(2**40)) % 3 }}",
    ],
)
def test_a_constant_that_takes_for_ever_is_a_refusal_to_load(source: str) -> None:
    with pytest.raises(TemplateTooSlow, match=r"took more than 0\.3 s of processor time to load"):
        template(source, compile_cpu_s=0.3)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ 'x' * 10**11 }}", MEMORY),
        ("{{ ('x' * 10**11) | length }}", MEMORY),
        ("{{ [0] * 10**11 }}", MEMORY),
        ("{{ 'x' | center(10**11) }}", MEMORY),
        ("{{ '%99999999999d' % 1 }}", MEMORY),
    ],
)
def test_a_constant_that_takes_much_memory_is_met_when_it_is_rendered(
    source: str, says: str
) -> None:
    with pytest.raises(TemplateFailed, match=says):
        template(source).render(MESSAGES, cpu_s=QUICK_CPU_S)


def test_a_constant_too_long_to_be_written_down_is_a_refusal_to_load() -> None:
    with pytest.raises(TemplateFailed, match="not valid Jinja: Exceeds the limit"):
        template("{{ 10**5000 }}")


def test_nesting_without_end_is_a_refusal_to_load() -> None:
    with pytest.raises(TemplateFailed, match="not valid Jinja"):
        template("{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}")
    with pytest.raises(TemplateFailed, match="not valid Jinja"):
        template("{% if 1 %}" * 1000 + "{% endif %}" * 1000)


def test_messages_nested_without_end_are_refused() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(TemplateFailed, match="nested too deeply"):
        template(GOOD).render(MESSAGES, arguments={"nested": nested})


def test_half_a_character_comes_through() -> None:
    half = [{"role": "user", "content": "\ud83d é 😀"}]
    assert template(GOOD).render(half) == "\ud83d é 😀"


class Watch:
    """The processes that rendering starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self._start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
        monkeypatch.setattr("appliance.text.rendering.renderers.subprocess.Popen", self._watched)

    def _watched(self, command: Sequence[str], **pipes: int) -> subprocess.Popen[bytes]:
        self.started.append(self._start(command, **pipes))
        return self.started[-1]


def test_one_process_renders_everything_and_ends_with_its_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(monkeypatch)
    good = template(GOOD)
    for _ in range(3):
        assert good.render(MESSAGES) == "x"
        with pytest.raises(TemplateFailed, match=MEMORY):
            good.render(MESSAGES, arguments={"attack": MAX_MEMORY_BYTES})
    (process,) = watch.started
    assert process.poll() is None
    del good
    gc.collect()
    assert process.poll() == 0


def test_a_process_killed_from_outside_costs_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    good = template(GOOD)
    os.kill(watch.started[0].pid, signal.SIGKILL)
    with pytest.raises(TemplateFailed, match=r"broke the process that rendered it \(signal 9\)"):
        good.render(MESSAGES)
    assert good.render(MESSAGES) == "x"
    assert len(watch.started) == 2


def test_a_copy_killed_from_outside_costs_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    good = template(GOOD)
    (process,) = watch.started
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list the children of a process")
    while not (copies := children.read_text().split()):  # the first one is about to be made
        pass
    os.kill(int(copies[0]), signal.SIGKILL)
    with pytest.raises(TemplateFailed, match=r"broke the process that rendered it \(SIGKILL\)"):
        good.render(MESSAGES)
    assert good.render(MESSAGES) == "x"
    assert len(watch.started) == 1


def test_the_usual_limits() -> None:
    assert (chat_template.QUICK_CPU_S, chat_template.MAX_CPU_S) == (0.1, 5.0)
