"""A body of a million wrong elements costs one complaint, not a million: validation
runs on everybody's event loop.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from appliance.api.openai.chat import ChatRequest
from appliance.api.openai.completions import CompletionRequest

MANY = 100_000
MESSAGE = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ChatRequest, {"messages": [1] * MANY}),
        (ChatRequest, {"messages": [{**MESSAGE, "content": [1] * MANY}]}),
        (ChatRequest, {"messages": [MESSAGE], **{f"field{n}": 1 for n in range(MANY)}}),
        (ChatRequest, {"messages": [MESSAGE], "logit_bias": {str(n): 999 for n in range(MANY)}}),
        (CompletionRequest, {"prompt": [-1] * MANY}),
        (CompletionRequest, {"prompt": [[-1] * MANY]}),
        (CompletionRequest, {"prompt": ["x", *([1] * MANY)]}),
    ],
    ids=["messages", "parts", "fields", "biases", "tokens", "token lists", "texts"],
)
def test_one_complaint_is_enough(
    model: type[ChatRequest | CompletionRequest], body: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    assert refused.value.error_count() == 1
