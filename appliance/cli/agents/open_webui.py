"""Open WebUI, a page for many people: it uses `/v1/chat/completions`. Knows no other agent.

Source: https://docs.openwebui.com/reference/env-configuration
"""

from __future__ import annotations

from urllib.parse import urlsplit

from appliance.cli.agents.agent import NO_KEY, Agent, Needs, Setup, Target
from appliance.cli.agents.shell import first_key_command

_KEY = "OPENAI_API_KEY"
_PORT = 3000  # its own default is ours
_FROM_CONTAINERS = "host.docker.internal"


def _set_up(target: Target) -> Setup:
    server_port = urlsplit(target.url).port
    port = _PORT if server_port != _PORT else _PORT + 1
    key = NO_KEY if target.key_file is None else f"$({first_key_command(target.key_file)})"
    container = (
        f"docker run -d -p {port}:8080 --add-host={_FROM_CONTAINERS}:host-gateway \\\n"
        f"    -e OPENAI_API_BASE_URL=http://{_FROM_CONTAINERS}:{server_port}/v1 \\\n"
        f'    -e OPENAI_API_KEY="{key}" \\\n'
        "    -v open-webui:/app/backend/data ghcr.io/open-webui/open-webui:main"
    )
    reached = " (serve with --host 0.0.0.0 and --api-key-file FILE)" if target.is_local else ""
    return Setup(
        environment={"OPENAI_API_BASE_URL": target.openai_url},
        key_variables=(_KEY,),
        arguments=("serve", "--port", str(port)),
        by_hand=f"As a container{reached}:\n\n{container}",
        remarks=(
            f"Its page is http://127.0.0.1:{port}. It reads these variables when it starts for the "
            "first time; after that, change the address under Admin Panel, Settings, Connections.",
        ),
    )


OPEN_WEBUI = Agent(
    name="open-webui",
    title="Open WebUI",
    summary="A chat page with accounts, documents and tools",
    needs=Needs(least_ctx=2_048, good_ctx=8_192, tools=False),
    command="open-webui",
    installing="pip install open-webui (Python 3.11 or 3.12)",
    set_up=_set_up,
)
