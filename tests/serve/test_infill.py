"""Fill-in-the-middle on a real GGUF: the embedded model's weights, whose vocabulary is
given the marks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import httpx
import pytest
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

from tests.conftest import Embedded
from tests.serve.server import StartServer

# rare words before
MARKS = {"pre": 4090, "suf": 4091, "mid": 4092, "rep": 4093, "sep": 4094, "pad": 4095}


@pytest.fixture(scope="module")
def coder(embedded: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    reader = gguf.GGUFReader(embedded.files["Q8_0"])
    path = tmp_path_factory.mktemp("coder") / "coder-Q8_0.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    added = {
        f"tokenizer.ggml.fim_{name}_token_id": MetadataDetails(gguf.GGUFValueType.UINT32, token)
        for name, token in MARKS.items()
    }
    copy_with_new_metadata(reader, writer, added, [])
    return path


def test_a_gap_is_filled_in_by_both_endpoints(start_server: StartServer, coder: Path) -> None:
    server = start_server(str(coder), "--ctx", "512")
    with httpx.Client(base_url=server.url, timeout=60) as http:

        def tokens_of(text: str) -> list[int]:
            tokens: list[int] = http.post(
                "/tokenize", json={"content": text, "parse_special": False}
            ).json()["tokens"]
            return tokens

        def post(path: str, **fields: Any) -> dict[str, Any]:
            response = http.post(path, json=fields)
            assert response.status_code == 200, response.text
            body: dict[str, Any] = response.json()
            return body

        prefix, suffix, prefill = "The old house", " by the sea.", " stood"
        gap = [MARKS["pre"], *tokens_of(prefix), MARKS["suf"], *tokens_of(suffix), MARKS["mid"]]
        greedy = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
        by_hand = post("/v1/completions", prompt=gap, **greedy)
        by_suffix = post("/v1/completions", prompt=prefix, suffix=suffix, **greedy)
        infilled = post("/infill", input_prefix=prefix, input_suffix=suffix, **greedy)
        assert by_suffix["choices"] == by_hand["choices"]
        assert infilled["content"] == by_hand["choices"][0]["text"]
        assert (infilled["tokens_evaluated"], infilled["tokens_predicted"]) == (len(gap), 8)
        assert infilled["stop_type"] == "limit"

        files = [{"filename": "a.txt", "text": "One."}, {"filename": "b.txt", "text": "Two."}]
        project = [MARKS["rep"], *tokens_of("myproject\n")]
        for name, text in (("a.txt", "One."), ("b.txt", "Two.")):
            project += [MARKS["sep"], *tokens_of(f"{name}\n{text}")]
        project += [MARKS["sep"], *tokens_of("filename\n"), *gap, *tokens_of(prefill)]
        with_files = post(
            "/infill",
            input_prefix=prefix,
            input_suffix=suffix,
            input_extra=files,
            prompt=prefill,
            **greedy,
        )
        assert (
            with_files["content"]
            == post("/v1/completions", prompt=project, **greedy)["choices"][0]["text"]
        )
        assert with_files["tokens_evaluated"] == len(project)

        # As an editor asks: the other files beforehand, then while somebody types.
        extra = [{"filename": "c.txt", "text": "A letter. " * 10, "time": [1, 2]}]
        warming = {
            "input_extra": extra,
            "input_prefix": "",
            "input_suffix": "",
            "prompt": "",
            "n_predict": 0,
        }
        assert (
            post("/infill", **warming, samplers=[], t_max_prompt_ms=1, response_fields=[""]) == {}
        )
        typed = {
            "input_extra": extra,
            "input_prefix": prefix,
            "input_suffix": suffix,
            "prompt": prefill,
            "n_predict": 64,
        }
        editor = {
            "samplers": ["top_k", "top_p", "infill"],
            "top_p": 0.9,
            "n_indent": 4,
            "t_max_predict_ms": 1000,
        }
        fields = ["content", "timings/cache_n", "timings/predicted_per_second", "tokens_predicted"]
        suggested = post("/infill", **typed, **editor, response_fields=fields)
        others = [
            MARKS["rep"],
            *tokens_of("myproject\n"),
            MARKS["sep"],
            *tokens_of("c.txt\n" + "A letter. " * 10),
        ]
        others += [MARKS["sep"], *tokens_of("filename\n"), MARKS["pre"]]
        assert suggested["timings/cache_n"] == len(others)
        assert suggested["timings/predicted_per_second"] > 1
        assert suggested.keys() == set(fields)
        assert all(line.startswith("    ") for line in suggested["content"].split("\n")[1:-1])

        # llama.cpp counts these among the tokens that end an answer
        for name in ("rep", "sep", "pad"):
            bias = {str(MARKS[name]): 100}
            ended = post(
                "/infill", input_prefix=prefix, input_suffix=suffix, max_tokens=8, logit_bias=bias
            )
            assert (ended["content"], ended["stop_type"], ended["tokens_predicted"]) == (
                "",
                "eos",
                1,
            )

        long = http.post(
            "/infill", json={"input_prefix": "the " * 400, "input_suffix": "sea " * 400}
        )
        error = long.json()["error"]
        assert (long.status_code, error["reason"], error["param"]) == (
            400,
            "context_length_exceeded",
            "input_suffix",
        )
        assert "maximum context length is 512 tokens" in error["message"]


def test_a_model_without_marks_refuses_and_names_the_way_out(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    for path, body, param in (
        ("/v1/completions", {"prompt": "Once", "suffix": " end."}, "suffix"),
        ("/infill", {"input_prefix": "Once", "input_suffix": " end."}, "input_suffix"),
    ):
        response = httpx.post(f"{server.url}{path}", json=body, timeout=60)
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, param)
        assert "was not trained to fill in the middle" in error["message"]
        assert "/v1/completions" in error["message"]
