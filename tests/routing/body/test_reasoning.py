from __future__ import annotations

import pytest

from litellm_plugin.routing.body.reasoning import anthropic_effort, gemini_effort, openai_effort


@pytest.mark.parametrize(
    ("value", "effort"),
    [
        *[pytest.param(e, e, id=e) for e in ("none", "minimal", "low", "medium", "high", "xhigh")],
        pytest.param("HIGH", "high", id="capitals"),
        pytest.param("max", "xhigh", id="Anthropic's highest"),
        pytest.param("disable", "none", id="LiteLLM's none"),
        pytest.param({"effort": "low", "summary": "auto"}, "low", id="object"),
        pytest.param({"summary": "auto"}, None, id="object without effort"),
        pytest.param("enormous", None, id="unknown word"),
        pytest.param(3, None, id="number"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_openai_effort(value, effort):
    assert openai_effort(value) == effort


@pytest.mark.parametrize(
    ("thinking", "config", "effort"),
    [
        pytest.param({"type": "disabled"}, None, "none", id="disabled"),
        pytest.param({"type": "disabled"}, {"effort": "high"}, "none", id="disabled beats effort"),
        pytest.param({"type": "enabled", "budget_tokens": 1023}, None, "minimal", id="below 1,024"),
        pytest.param({"type": "enabled", "budget_tokens": 1024}, None, "low", id="1,024"),
        pytest.param({"type": "enabled", "budget_tokens": 2048}, None, "medium", id="2,048"),
        pytest.param({"type": "enabled", "budget_tokens": 4096}, None, "high", id="4,096"),
        pytest.param({"type": "enabled", "budget_tokens": 32000}, None, "xhigh", id="8,192 and more"),
        pytest.param(
            {"type": "enabled", "budget_tokens": 1024}, {"effort": "max"}, "xhigh", id="effort first"
        ),
        pytest.param({"type": "adaptive"}, None, "high", id="adaptive"),
        pytest.param({"type": "adaptive"}, {"effort": "low"}, "low", id="adaptive with effort"),
        pytest.param(None, {"effort": "medium"}, "medium", id="effort alone"),
        pytest.param({"budget_tokens": 1024}, None, None, id="no type"),
        pytest.param(None, None, None, id="nothing"),
    ],
)
def test_anthropic_effort(thinking, config, effort):
    assert anthropic_effort(thinking, config) == effort


@pytest.mark.parametrize(
    ("config", "effort"),
    [
        pytest.param({"thinkingBudget": 0}, "none", id="no budget"),
        pytest.param({"thinkingBudget": 128}, "minimal", id="small budget"),
        pytest.param({"thinking_budget": 8192}, "xhigh", id="large budget, snake case"),
        pytest.param({"thinkingBudget": -1}, None, id="left to the model"),
        pytest.param({"thinkingLevel": "LOW"}, "low", id="level"),
        pytest.param({"includeThoughts": True}, None, id="thoughts shown"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_gemini_effort(config, effort):
    assert gemini_effort(config) == effort
