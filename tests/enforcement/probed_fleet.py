"""A fleet whose proxy asks some of its deployments with a prompt of its own."""

from __future__ import annotations

from fleet import Fleet

from litellm_plugin.proxy.synthetic import PROMPT

# The least that may be set: a test waits for about two of them.
EVERY_S = 10.0
PROBING = {"every_seconds": EVERY_S, "timeout_seconds": 5, "requests_per_hour": 1000}


class ProbedFleet(Fleet):
    """`eu-a` and `us-a` take synthetic prompts, `us-b` says that it does not, the others say nothing."""

    probed = ("eu-a-1", "us-a-1")
    # A probe that was counted before the providers were cleared may arrive after it.
    probes_cleared = 0

    def clear(self):
        self.probes_cleared += self.probes_arrived()
        super().clear()

    def config(self):
        config = super().config()
        policy = config["litellm_settings"]["permit_router"]
        policy["resilience"] = {"probing": PROBING, **policy["resilience"]}
        for entry in config["model_list"]:
            info = entry["model_info"]
            if info["id"] in self.probed:
                info["synthetic_prompts"] = True
            elif info["id"] == "us-b-1":
                info["synthetic_prompts"] = False
        return config

    def probes(self):
        """What arrived with the plugin's own prompt, by provider."""
        found = {
            name: [each for each in provider.requests if PROMPT.encode() in each.body]
            for name, provider in self.providers.items()
        }
        return {name: arrived for name, arrived in found.items() if arrived}

    def probes_arrived(self):
        """How many of them arrived, of those that are there to be looked at."""
        return sum(len(arrived) for arrived in self.probes().values())

    def probes_ever(self):
        """How many of them arrived since the start, and how many the worker says that it sent, which comes first."""
        arrived = self.probes_cleared + self.probes_arrived()
        return arrived, sum(self.probing()["asked"].values())

    def probing(self):
        return self.health()["shared_state"]["probing"]
