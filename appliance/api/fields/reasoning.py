"""How much a model reasons before it answers, under everybody's names.

Knows no template.

Sources: https://github.com/ollama/ollama/blob/main/docs/api.md (`think`),
https://docs.vllm.ai/en/latest/features/reasoning_outputs.html (`chat_template_kwargs`),
https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking (`thinking`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, Field
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import MAX_INT32, LabelledModel, RequestModel

UNBOUNDED = -1
_ON, _OFF = "medium", "none"  # what yes and no are as efforts

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
ReasoningTokens = Annotated[int, Field(ge=UNBOUNDED, le=MAX_INT32)]


def _own_names_only(arguments: dict[str, Any]) -> dict[str, Any]:
    taken = next((name for name in arguments if name in _GIVEN_TO_TEMPLATES), None)
    if taken is not None:
        raise PydanticCustomError(
            "invalid_value",
            "'{name}' cannot be set here: the server passes it to the template itself.",
            {"name": taken},
        )
    return arguments


_GIVEN_TO_TEMPLATES = ("messages", "tools", "documents", "add_generation_prompt")
TemplateArguments = Annotated[
    dict[Annotated[str, Field(max_length=64)], Any],
    Field(max_length=64),
    AfterValidator(_own_names_only),
]


class ThinkingSwitch(LabelledModel):
    """Anthropic's, Z.ai's and DeepSeek's."""

    type: Literal["enabled", "disabled", "adaptive", "auto"]
    budget_tokens: ReasoningTokens | None = None

    @property
    def effort(self) -> str | None:
        return {"enabled": _ON, "disabled": _OFF}.get(self.type)


class ReasoningFields(RequestModel):
    """Part of every request with a conversation. Of several ways to say the same, the
    first that is given counts: OpenAI's, then Ollama's, then Anthropic's.
    """

    reasoning_budget: Annotated[
        ReasoningTokens | None,
        Field(
            validation_alias=AliasChoices(
                "reasoning_budget",
                "thinking_budget",
                "thinking_budget_tokens",
                "reasoning_budget_tokens",
            )
        ),
    ] = None  # tokens; -1: any number
    think: bool | ReasoningEffort | None = None
    thinking: ThinkingSwitch | None = None
    enable_thinking: bool | None = None  # an argument of templates, beside the others

    # What else the model's chat template reads, such as {"enable_thinking": false}. The
    # name is vLLM's and llama.cpp's.
    chat_template_kwargs: TemplateArguments | None = None

    def template_arguments(self) -> dict[str, Any]:
        switch = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**switch, **(self.chat_template_kwargs or {})}

    def effort(self, own: str | None) -> str | None:
        """OpenAI's `reasoning_effort`; `own` is what the format's own field says."""
        if own is not None:
            return own
        if self.think is not None:
            return self.think if isinstance(self.think, str) else _ON if self.think else _OFF
        return None if self.thinking is None else self.thinking.effort

    def max_reasoning_tokens(self, own: int | None = None) -> int | None:
        """None where there is no bound."""
        budget = self.reasoning_budget if own is None else own
        if budget is None and self.thinking is not None:
            budget = self.thinking.budget_tokens
        return None if budget == UNBOUNDED else budget
