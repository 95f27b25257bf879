"""/completion of a real server: llama.cpp's fields, of tokens that /tokenize gives too."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.serve.server import StartServer

FLAGS = ("novels-6m", "--slots", "1", "--repeatable", "off")  # whole prefixes are reused
GREEDY = {"temperature": 0, "ignore_eos": True, "n_predict": 4}
PROMPT = "It was the best of times, it was the worst of times, it was the age of wisdom."


def test_tokens_texts_probabilities_progress_and_slots_agree(start_server: StartServer) -> None:
    with httpx.Client(base_url=start_server(*FLAGS).url, timeout=60) as http:

        def post(path: str, **fields: Any) -> Any:
            response = http.post(path, json=fields)
            assert response.status_code == 200, response.text
            return response.json()

        def tokens_of(text: str) -> list[int]:
            tokens: list[int] = post("/tokenize", content=text)["tokens"]
            return tokens

        whole = post("/completion", prompt=PROMPT, n_probs=2, return_tokens=True, **GREEDY)
        assert (whole["prompt"], whole["tokens_evaluated"], whole["tokens_predicted"]) == (
            PROMPT,
            len(tokens_of(PROMPT)),
            4,
        )
        assert post("/detokenize", tokens=whole["tokens"])["content"] == whole["content"]
        probabilities = whole["completion_probabilities"]
        assert [each["id"] for each in probabilities] == whole["tokens"]
        assert all(len(each["top_logprobs"]) == 2 for each in probabilities)
        for each in probabilities:
            best = each["top_logprobs"][0]
            assert (best["id"], best["token"]) == (each["id"], each["token"]), "greedy"
            assert abs(best["logprob"] - each["logprob"]) < 1e-4

        # special tokens written in a prompt are such, beside token ids too
        marked = "<|im_start|>user\nHi<|im_end|>"
        mixed = post("/completion", prompt=[*tokens_of(marked), " a"], **GREEDY)
        written = post("/completion", prompt=marked + " a", **GREEDY)
        assert mixed["prompt"] == written["prompt"] == marked + " a"
        assert mixed["tokens_evaluated"] == len(tokens_of(marked)) + len(tokens_of(" a"))
        assert mixed["content"] == written["content"]

        fields = {"prompt": PROMPT, "stream": True, "cache_prompt": False, **GREEDY}
        with http.stream("POST", "/completion", json={**fields, "return_progress": True}) as stream:
            events = [
                json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data")
            ]
        progress = [each["prompt_progress"] for each in events if "prompt_progress" in each]
        assert progress[-1]["processed"] == progress[-1]["total"] == whole["tokens_evaluated"]
        assert [token for each in events for token in each["tokens"]] == whole["tokens"]
        assert "".join(each["content"] for each in events) == whole["content"]

        post("/completion", prompt=PROMPT, **GREEDY)
        assert post("/slots/0?action=save", filename="a")["n_saved"] == len(tokens_of(PROMPT)) + 3
        assert post("/slots/0?action=erase")["n_erased"] == len(tokens_of(PROMPT)) + 3
        assert post("/completion", prompt=PROMPT, **GREEDY)["tokens_cached"] == 0
        post("/slots/0?action=erase")
        post("/slots/0?action=restore", filename="a")
        cached = post("/completion", prompt=PROMPT, **GREEDY)["tokens_cached"]
        assert cached == len(tokens_of(PROMPT)) - 1
