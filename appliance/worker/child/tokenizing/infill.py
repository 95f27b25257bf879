"""Fill-in-the-middle: the text before and after a gap becomes token ids, with the
vocabulary's own marks.

The patterns are those of
https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md (POST /infill),
for several files https://arxiv.org/pdf/2409.12186. Knows no context: what does not fit
is for others to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from appliance.errors import BadRequest
from appliance.protocol.requests import InfillPrompt, SourceFile

_NEEDED = ("pre", "suf", "mid")
_PROJECT = "myproject"  # llama.cpp's names for what a request does not name
_THIS_FILE = "filename"
# llama.cpp's, where the vocabulary has no mark between files
_BEFORE_FILE = "\n\n--- snippet ---\n\n"


class InfillVocabulary(Protocol):
    """What of a loaded model it takes; `fim_tokens` by llama.cpp's names (`pre`, `suf`,
    `mid`, `rep`, `sep`, `pad`).
    """

    @property
    def fim_tokens(self) -> Mapping[str, int]: ...

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...


def infill_tokens(
    vocabulary: InfillVocabulary,
    prompt: InfillPrompt,
    within: Callable[[bytes], list[int]] | None = None,
) -> list[int]:
    """Without BOS. Marks that are written in the texts stay plain text.

    `within` tokenizes what is no beginning of a text, where the vocabulary puts a space
    in front of one: the text after a gap has none (as CodeLlama was trained), and what
    is filled in goes on.

    Raises `BadRequest`, which names the request's field, where the vocabulary has no
    such marks.
    """
    marks = vocabulary.fim_tokens
    if not all(name in marks for name in _NEEDED):
        raise BadRequest(
            "This model was not trained to fill in the middle: its file defines no tokens for it "
            "(tokenizer.ggml.fim_pre_token_id, fim_suf and fim_mid). Send only the text before "
            "the gap, as the prompt of /v1/completions, or use a code model such as "
            "Qwen2.5-Coder.",
            param=prompt.param,
        )

    def plain(text: str) -> list[int]:
        return vocabulary.tokenize(text, parse_special=False) if text else []

    def inner(text: str) -> list[int]:
        return plain(text) if within is None else within(text.encode())

    prefix = [marks["pre"], *plain(prompt.prefix)]
    suffix = [marks["suf"], *inner(prompt.suffix)]
    ordered = [*suffix, *prefix] if prompt.is_suffix_first else [*prefix, *suffix]
    return [*_others(vocabulary, prompt.files), *ordered, marks["mid"], *inner(prompt.prefill)]


def _others(vocabulary: InfillVocabulary, files: list[SourceFile]) -> list[int]:
    """Other files of the same project, in front; nothing where there are none."""
    if not files:
        return []
    marks = vocabulary.fim_tokens
    tokens: list[int] = []

    def add(text: str) -> None:
        tokens.extend(vocabulary.tokenize(text, parse_special=False))

    if "rep" in marks:
        tokens.append(marks["rep"])
        add(f"{_PROJECT}\n")
    for file in files:
        if "sep" in marks:
            tokens.append(marks["sep"])
            add(f"{file.name}\n{file.text}")
        else:
            add(f"{_BEFORE_FILE}{file.text}")
    if "sep" in marks:
        tokens.append(marks["sep"])
        add(f"{_THIS_FILE}\n")
    return tokens
