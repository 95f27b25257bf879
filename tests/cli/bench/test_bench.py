"""`appliance bench` with a server that plays a script."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.api.app import create_app
from appliance.cli.bench.bench import Report, as_text
from appliance.cli.network.certificates import Certificates
from appliance.protocol.events import Delta, Finished, FinishReason, Started, Usage
from appliance.settings import ServerOptions
from tests.api.conftest import Serve
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.cli.chat.commands import run_command
from tests.cli.network.conftest import Listen
from tests.cli.network.own_certificates import Authority
from tests.serve.server import free_port

SIZES = ("--streams", "2", "--prompt-tokens", "20", "--tokens", "8")


def scripted() -> ScriptedClient:
    """Answers of eight tokens, whatever is asked."""
    usage = Usage(num_prompt_tokens=20, num_cached_tokens=0, num_completion_tokens=8)
    deltas = [Delta(request_id=1, text=f" {number}", num_tokens=1) for number in range(8)]
    script = (
        Started(1, 20),
        *deltas,
        Finished(request_id=1, reason=FinishReason.LENGTH, usage=usage),
    )
    return ScriptedClient(*script)


async def test_loads_are_measured_and_compared(serve: Serve, tmp_path: Path) -> None:
    client = scripted()
    url = serve(create_app(gateway_around(client, ("s3cret",))))
    keys = tmp_path / "keys"
    keys.write_text("s3cret\n")
    words = ("bench", "novels", "--url", url, *SIZES, "--api-key-file", str(keys))
    ended = await run_command(tmp_path, *words, "--json")
    assert ended.exit_code == 0, ended.err
    assert "several streams: 100 %" in ended.err
    report = json.loads(ended.out)
    assert [*report["loads"]] == ["one stream", "several streams", "shared prefix"]
    assert all(load["throughput_tokens_per_s"] > 0 for load in report["loads"].values())
    prompts = [request.prompt.text for request in client.requests]  # type: ignore[union-attr]
    assert [len(prompt.split()) for prompt in prompts] == [20, 20, 20, 20, 36, 36]
    assert prompts[4].split()[:20] == prompts[5].split()[:20]

    earlier = tmp_path / "earlier.json"
    earlier.write_text(ended.out)
    ended = await run_command(tmp_path, *words, "--against", str(earlier))
    assert ended.exit_code == 0, ended.err
    assert "x)" in ended.out
    ended = await run_command(tmp_path, *words, "--streams", "3", "--against", str(earlier))
    assert (ended.exit_code, ended.out) == (2, "")
    assert "was measured with other sizes: --streams 2 --prompt-tokens 20" in ended.err


async def test_over_tls(listen: Listen, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    Authority().write(cert, key)
    options = ServerOptions(
        port=free_port(), tls_cert=cert, tls_key=key, models_dir=tmp_path, state_dir=tmp_path
    )
    listen(options, gateway_around(scripted()), Certificates(cert, key))
    words = ("bench", "novels", "--url", f"https://127.0.0.1:{options.port}", *SIZES)
    ended = await run_command(tmp_path, *words, "--tls-cert", str(cert))
    assert ended.exit_code == 0, ended.err
    assert ended.out.startswith("novels: 2 streams")
    ended = await run_command(tmp_path, *words)
    assert (ended.exit_code, ended.out) == (1, "")
    assert "certificate verify failed" in ended.err, "of an authority that nobody knows"


def test_what_is_better_is_above_one() -> None:
    def report(ttft_s: float, tokens_per_s: float) -> Report:
        names = ("ttft_p50_s", "ttft_p95_s", "gap_p50_ms", "gap_p99_ms", "all_done_s")
        figures = dict.fromkeys(names, ttft_s) | {"throughput_tokens_per_s": tokens_per_s}
        return Report(
            model="novels",
            num_streams=4,
            num_prompt_tokens=256,
            num_new_tokens=64,
            loads={"one stream": figures},
        )

    lines = as_text(report(0.5, 30.0), report(1.0, 20.0)).splitlines()
    assert lines[0] == "novels: 4 streams, prompts of 256 words, answers of 64 tokens"
    assert lines[2].split() == ["ttft", "p50,", "s", "0.500", "(2.00x)"]
    assert lines[6].split() == ["throughput,", "tokens/s", "30.0", "(1.50x)"]
    at = lines.index("ttft p50, s")
    assert lines[at : at + 3] == [
        "ttft p50, s",
        f"  one stream, before  {40 * '█'} 1.000",
        f"  one stream          {20 * '█'} 0.500",
    ]
    assert lines[-1] == f"  one stream          {40 * '█'} 30.0"
    assert lines[-2] == f"  one stream, before  {26 * '█'}▋ 20.0"
