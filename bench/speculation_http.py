"""Two running servers with the same pair of models, by turns, over HTTP: tokens per
second of ours over theirs.

Start both, idle beside each other, each with its defaults, for example

    appliance serve TARGET.gguf --no-tune --repeatable off --port 8081 --draft DRAFT.gguf
    llama-server -m TARGET.gguf --spec-draft-model DRAFT.gguf --spec-type draft-simple \\
        --port 8082 --host 127.0.0.1

Run: python -m bench.speculation_http --ours http://127.0.0.1:8081
     --theirs http://127.0.0.1:8082 --text TEXT.txt
     [--streams 1,2,4] [--rounds 7] [--tokens 160] [--temperature 0,0.8]

Every round asks each server the same new questions, in an order that turns; time is
from the first request sent to the last answer's end, prompts included. Printed are the
medians of the ratios, and their spread.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

import httpx

PROMPT_CHARACTERS = 500


async def _model(client: httpx.AsyncClient, url: str) -> str:
    """The first one that the server has."""
    response = await client.get(f"{url}/v1/models")
    response.raise_for_status()
    name: str = response.json()["data"][0]["id"]
    return name


async def _ask(
    client: httpx.AsyncClient, url: str, prompt: str, args: argparse.Namespace, temperature: float
) -> int:
    body = {
        "model": await _model(client, url),
        "prompt": prompt,
        "max_tokens": args.tokens,
        "temperature": temperature,
        "seed": 7,
        "ignore_eos": True,
    }
    response = await client.post(f"{url}/v1/completions", json=body)
    response.raise_for_status()
    num_tokens: int = response.json()["usage"]["completion_tokens"]
    return num_tokens


async def _rate(
    url: str, prompts: list[str], args: argparse.Namespace, temperature: float
) -> float:
    async with httpx.AsyncClient(timeout=600) as client:
        started_s = time.perf_counter()
        numbers = await asyncio.gather(
            *(_ask(client, url, prompt, args, temperature) for prompt in prompts)
        )
        return sum(numbers) / (time.perf_counter() - started_s)


async def _compare(args: argparse.Namespace) -> None:
    text = args.text.read_text(encoding="utf-8")
    at = 0
    for temperature in map(float, args.temperature.split(",")):
        for num_streams in map(int, args.streams.split(",")):
            ours, theirs = [], []
            for number in range(args.rounds):
                prompts = []
                for _ in range(num_streams):
                    prompts.append(text[at : at + PROMPT_CHARACTERS])
                    at = (at + PROMPT_CHARACTERS) % (len(text) - PROMPT_CHARACTERS)
                order = [(args.ours, ours), (args.theirs, theirs)]
                for url, rates in order if number % 2 else order[::-1]:
                    rates.append(await _rate(url, prompts, args, temperature))
            ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
            print(
                f"temperature {temperature}, {num_streams} streams: "
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); ours "
                f"{statistics.median(ours):.1f}, theirs {statistics.median(theirs):.1f} tok/s",
                flush=True,
            )


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ours", required=True)
    parser.add_argument("--theirs", required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--streams", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--temperature", default="0,0.8")
    asyncio.run(_compare(parser.parse_args(argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
