"""A real worker on a made-up model, asked through the whole API. Knows no test."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from appliance.api.app import create_app
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.context_sizes import ContextSizes
from appliance.worker.config import WorkerConfig
from appliance.worker.supervisor import Patience, Supervisor
from tests.vocabularies.kinds import FIM, MARKS
from tests.vocabularies.made_model import Vocabulary
from tests.worker_configs import plain_config

CTX = 768


@dataclass(frozen=True, kw_only=True)
class Served:
    """One model of a kind of vocabulary."""

    kind: str
    vocabulary: Vocabulary
    supervisor: Supervisor
    http: httpx.AsyncClient

    @property
    def has_end(self) -> bool:
        return self.kind != "no-end"

    @property
    def has_bytes(self) -> bool:
        """Whether any text can be written."""
        return self.kind not in ("spm-without-bytes", "unigram")

    @property
    def adds_space(self) -> bool:
        return self.kind in ("spm", "spm-without-bytes", "unigram")

    @property
    def adds_bos(self) -> bool:
        return bool(self.vocabulary.keys.get("add_bos_token"))

    @property
    def special(self) -> tuple[str, ...]:
        return (*MARKS, *FIM)

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        response = await self.http.post(path, json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def refusal(self, path: str, **body: Any) -> str:
        """The words of a 400."""
        response = await self.http.post(path, json=body)
        assert response.status_code == 400, response.text
        return str(response.json()["error"]["message"])

    async def complete(self, prompt: str | list[int] = "the", **body: Any) -> dict[str, Any]:
        """The one choice."""
        answer = await self.post("/v1/completions", prompt=prompt, **body)
        [choice] = answer["choices"]
        return {**choice, "usage": answer["usage"]}

    async def chat(self, *messages: tuple[str, str], **body: Any) -> dict[str, Any]:
        turns = [{"role": role, "content": content} for role, content in messages]
        answer = await self.post("/v1/chat/completions", messages=turns, **body)
        [choice] = answer["choices"]
        return {**choice, "usage": answer["usage"]}

    async def tokenize(self, text: str, **fields: Any) -> list[int]:
        tokens: list[int] = (await self.post("/tokenize", content=text, **fields))["tokens"]
        return tokens

    async def detokenize(self, tokens: list[int]) -> str:
        return str((await self.post("/detokenize", tokens=tokens))["content"])

    def byte_token(self, byte: int) -> int:
        """The token for one byte."""
        if self.vocabulary.model == "rwkv":
            return byte + 1
        if self.vocabulary.model == "gpt2":
            return byte
        return self.vocabulary.id_of(f"<0x{byte:02X}>")


def piece_bytes(piece: str | list[int]) -> bytes:
    """As /tokenize has it."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)


def token_bytes(name: str) -> bytes:
    r"""As completions have it: a token that is no whole character reads `bytes:\xe6`."""
    if not name.startswith("bytes:"):
        return name.encode()
    return codecs.escape_decode(name.removeprefix("bytes:"))[0]  # type: ignore[attr-defined]


def worker_config(
    model: Path, *, prompt_lookup: bool = True, embeds: bool = False, step_times_dir: str = ""
) -> WorkerConfig:
    return plain_config(
        model_path=str(model),
        ctx=CTX,
        sizes=ContextSizes(
            slots=2,
            kv_cells=0 if embeds else 1536,
            kv_type="f16",
            threads=1,
            max_rows=CTX if embeds else 128,
            batch_threads=1,
            ubatch_rows=CTX if embeds else 128,
            max_draft_rows=16 if prompt_lookup else 0,
            flash_attention=True,
        ),
        prompt_lookup=prompt_lookup,
        embeds=embeds,
        step_times_dir=step_times_dir,
        log_level="warning",
    )


@asynccontextmanager
async def serving(kind: str, vocabulary: Vocabulary, config: WorkerConfig) -> AsyncIterator[Served]:
    supervisor = Supervisor(config, Patience(stop_s=20.0))
    await supervisor.start()
    router = Router([ServedModel(id="made-up", client=supervisor, created=0)])
    app = create_app(Gateway(router, Admission()))
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8080", timeout=60
        ) as http:
            yield Served(kind=kind, vocabulary=vocabulary, supervisor=supervisor, http=http)
    finally:
        await supervisor.stop()
