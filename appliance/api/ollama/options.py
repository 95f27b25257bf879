"""`options` of a request, under Ollama's names.

Knows no endpoint.

Source: https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx (PARAMETER) and
https://github.com/ollama/ollama/blob/main/api/types.go. How a model is loaded was
decided when it was planned: those options are hints.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.parameters import Penalty, Seed, StopField
from appliance.api.fields.request import MAX_INT32
from appliance.api.fields.samplers import SamplerFields
from appliance.protocol.sampling import SamplingParams


def _unless_unlimited(num_tokens: int | None) -> int | None:
    """0, -1 (no limit) and -2 (fill the context) all mean as much as there is room for."""
    return num_tokens if num_tokens is not None and num_tokens > 0 else None


NumPredict = Annotated[
    Annotated[int, Field(ge=-2, le=MAX_INT32)] | None,
    AfterValidator(_unless_unlimited),
]


class Options(SamplerFields):
    """An absent or null one means our default, which is llama.cpp's."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed = None
    num_predict: NumPredict = None
    stop: StopField | None = None

    # --- decided when the model was loaded ---
    num_ctx: Hint = None  # a prompt longer than the context is refused in any case
    num_keep: Hint = None  # of a prompt that is truncated; none is
    num_batch: Hint = None
    num_gpu: Hint = None
    num_thread: Hint = None
    main_gpu: Hint = None
    numa: Hint = None
    low_vram: Hint = None
    f16_kv: Hint = None
    logits_all: Hint = None
    vocab_only: Hint = None
    use_mmap: Hint = None
    use_mlock: Hint = None
    embedding_only: Hint = None
    draft_num_predict: Hint = None

    # --- Ollama itself has dropped these ---
    penalize_newline: Hint = None
    tfs_z: Annotated[Any, NeutralOnly(1)] = None

    def over(self, defaults: Options) -> Options:
        """These, and `defaults` where they say nothing."""
        own = {name: getattr(self, name) for name in self.model_fields_set}  # none is null
        return defaults.model_copy(update=own)

    def sampling(self, num_top_logprobs: int | None) -> SamplingParams:
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "seed": self.seed,
            "num_top_logprobs": num_top_logprobs,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return SamplingParams(**{**own, **self.given_samplers()})
