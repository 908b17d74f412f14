from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Read when LiteLLM is imported; without it LiteLLM fetches its cost map from the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# A machine that does something else besides must not fail a property.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
