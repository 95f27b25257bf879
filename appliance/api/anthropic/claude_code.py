"""What Claude Code sends beside what it asks: a line that changes with every request, and
requests whose answer nobody reads.

Knows no model. From what users of other servers report of its requests, such as
https://github.com/anthropics/claude-code/issues/68900 and
https://github.com/ggml-org/llama.cpp/pull/21793.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_USER_AGENT = "claude-cli/"
# `x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch=fa690;`,
# with the checksum of the request in it: a prompt that began so would never be found in
# the cache. What follows it in the same block is kept.
_BILLING = re.compile(r"x-anthropic-billing-header:(?:[ \t]*[\w-]+=[^;\s]*;?)*[ \t]*[\r\n]*")
# Asks whether the key is good, and how many tokens its tools have where nobody counts them.
_PROBES = ("quota", "count")


def without_billing(text: str) -> str:
    """A system prompt without the line at its beginning."""
    found = _BILLING.match(text)
    return text[found.end() :] if found else text


def is_probe(user_agent: str, max_tokens: int | None, texts: Sequence[str]) -> bool:
    """Whether only the status and the usage of an answer are looked at; `texts` are those
    of all messages.
    """
    return (
        user_agent.startswith(_USER_AGENT)
        and max_tokens == 1
        and len(texts) == 1
        and texts[0] in _PROBES
    )
