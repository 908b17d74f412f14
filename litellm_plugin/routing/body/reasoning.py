"""Reasoning: how much of it a caller asks for, in one vocabulary for what every dialect says in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugin.routing.body.fields import either, mapping, number

if TYPE_CHECKING:
    from collections.abc import Mapping


# https://platform.openai.com/docs/api-reference/chat/create#chat-create-reasoning_effort names the first six,
# https://docs.anthropic.com/en/docs/build-with-claude/effort `max`; `disable` is LiteLLM's own word.
_EFFORTS: Mapping[str, str] = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "xhigh",
    "disable": "none",
}
# Thinking tokens that LiteLLM gives for an effort, read the other way round: the highest that the budget pays for.
# litellm/constants.py, DEFAULT_REASONING_EFFORT_*_THINKING_BUDGET.
_BUDGETS: tuple[tuple[int, str], ...] = (
    (8192, "xhigh"),
    (4096, "high"),
    (2048, "medium"),
    (1024, "low"),
    (1, "minimal"),
    (0, "none"),
)
# https://docs.anthropic.com/en/docs/build-with-claude/adaptive-thinking: what adaptive thinking does unless told.
_ADAPTIVE = "high"


def openai_effort(value: object) -> str | None:
    """The effort that `reasoning_effort` or `reasoning` names: a word, or an object that holds one."""
    word = mapping(value).get("effort", value)
    return _EFFORTS.get(word.lower()) if isinstance(word, str) else None


def anthropic_effort(thinking: object, output_config: object = None) -> str | None:
    """The effort of `output_config.effort`, else of the thinking budget; disabled thinking is none at all."""
    fields = mapping(thinking)
    kind = fields.get("type")
    if kind == "disabled":
        return "none"
    named = openai_effort(mapping(output_config).get("effort"))
    if named is not None or kind not in ("enabled", "adaptive"):
        return named
    return _budget_effort(fields.get("budget_tokens")) or _ADAPTIVE


def gemini_effort(thinking_config: object) -> str | None:
    """The effort of `thinkingLevel`, else of `thinkingBudget`; a budget of -1 leaves it to the model.

    Source: https://ai.google.dev/gemini-api/docs/thinking
    """
    fields = mapping(thinking_config)
    level = either(fields, "thinkingLevel", "thinking_level")
    return openai_effort(level) or _budget_effort(either(fields, "thinkingBudget", "thinking_budget"))


def _budget_effort(budget: object) -> str | None:
    tokens = number(budget)
    if tokens is None:
        return None
    return next(effort for least, effort in _BUDGETS if tokens >= least)
