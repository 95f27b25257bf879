"""The measure of `auto`, on a handful of prompts."""

from __future__ import annotations

from bench.auto_model import Confusion, Labelled


def test_what_is_saved_and_what_goes_where() -> None:
    def prompt(text: str, *, needs_large: bool) -> Labelled:
        return Labelled("made", [{"role": "user", "content": text}], needs_large)

    prompts = [
        prompt("Write a Python function.", needs_large=True),
        prompt("Calculate 12 * 7.", needs_large=True),
        prompt("Be wise.", needs_large=True),
        prompt("Hello", needs_large=False),
        prompt("Why?", needs_large=False),
    ]
    assert [each.score for each in prompts] == [30, 30, 0, 0, 15]
    found = Confusion.of(prompts, 15)
    assert found == Confusion(
        large_to_large=2, large_to_small=1, small_to_large=1, small_to_small=1
    )
    assert round(found.balanced, 3) == 0.583
    assert found.saved(10) == 0.36  # two of five answers at a tenth
    assert Confusion.of(prompts, None).saved(10) == 0.36
    assert Confusion.of(prompts, 16).saved(2) == 0.3
