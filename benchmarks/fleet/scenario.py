"""The scenario: eight endpoints of one model group, at prices of LiteLLM's cost map."""

from __future__ import annotations

from fleet.endpoints import Endpoint, Episode


def endpoints(episode: tuple[float, float]) -> tuple[Endpoint, ...]:
    """Dear and fast, cheap and slow, a pool of equals; two of them go wrong during the episode."""
    slow = Episode(*episode, slower=6.0)
    broken = Episode(*episode, failing=0.6)
    return (
        Endpoint("azure-eu-4o", "azure/gpt-4o", 0.55, 0.011, tier="large", drift=0.3),
        Endpoint("openai-us-4o", "gpt-4o", 0.5, 0.012, tier="large", episodes=(slow,)),
        Endpoint("mini-a", "gpt-4o-mini", 0.45, 0.010, capacity=12),
        Endpoint("mini-b", "gpt-4o-mini", 0.45, 0.010, capacity=12, drift=0.4, drift_period_s=420.0),
        Endpoint("haiku", "claude-haiku-4-5", 0.6, 0.007, capacity=20),
        Endpoint(
            "flash",
            "gemini/gemini-2.5-flash-lite",
            0.4,
            0.006,
            capacity=8,
            rpm=90,
            tier="small",
            episodes=(broken,),
        ),
        Endpoint("deepseek", "deepseek/deepseek-chat", 1.4, 0.022, capacity=25),
        Endpoint("mistral", "mistral/mistral-small-latest", 0.5, 0.009, capacity=10, rpm=120, tier="small"),
    )
