"""Home Assistant's integration for Ollama: it uses `/api/chat`. Knows no other agent.

Source: https://www.home-assistant.io/integrations/ollama
"""

from __future__ import annotations

from urllib.parse import urlsplit

from appliance.cli.agents.agent import Agent, Needs, Setup, Target
from appliance.cli.agents.shell import first_key_command

_DEFAULT_CTX = 8_192  # tokens; that of the integration


def _set_up(target: Target) -> Setup:
    port = urlsplit(target.url).port
    lines = [
        "Settings, Devices & services, Add integration, Ollama:",
        "",
        f"URL                     {_url(target)}",
        *_key(target),
        f"Model                   {target.model}",
        "",
        "Then, in the conversation agent that this adds:",
        "",
        f"Context window size     {min(target.ctx, _DEFAULT_CTX)}",
        "Control Home Assistant  Assist, if the model calls functions well",
    ]
    remarks = []
    if target.is_local:
        remarks.append(
            "The server listens on this machine alone. For a Home Assistant elsewhere, or in a "
            "container, serve with --host 0.0.0.0 and a key, and give "
            f"http://THIS-MACHINE:{port} as the URL."
        )
    remarks.append(
        "A Home Assistant whose form has no field for a key sends none: it needs a server without "
        "keys (--insecure), in a network that you trust."
    )
    return Setup(by_hand="\n".join(lines), remarks=tuple(remarks))


def _key(target: Target) -> list[str]:
    if target.key_file is None:
        return []
    return [f"API key                 what this prints: {first_key_command(target.key_file)}"]


def _url(target: Target) -> str:
    return target.url if target.is_local else f"http://THIS-MACHINE:{urlsplit(target.url).port}"


HOME_ASSISTANT = Agent(
    name="home-assistant",
    title="Home Assistant",
    summary="Controls a home by voice and text",
    needs=Needs(least_ctx=2_048, good_ctx=8_192, tools=True),
    command=None,
    installing="https://www.home-assistant.io/installation",
    set_up=_set_up,
)
