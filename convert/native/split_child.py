"""The child that splits the sample texts by expressions that nobody here knows: one that was
written to be slow ends this process alone.

    request: {"section": the `pre_tokenizer` of a tokenizer.json, "cpu_s": number}
    answer:  the pieces of each sample text

Knows no vocabulary.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

from convert.child import Refused, serve
from convert.errors import DamagedCheckpoint
from convert.tokenizer.pretokenizer import Splits, split_sample


def answer(request: dict[str, Any], _send: Callable[[object], None]) -> Splits:
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"]))
    try:
        return split_sample(request["section"])
    except DamagedCheckpoint as error:
        raise Refused(str(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a Rust panic, which is no `Exception`
            raise
        raise Refused(f"tokenizer.json has a pre_tokenizer that cannot be used: {error}") from error


if __name__ == "__main__":
    serve(answer)
