from __future__ import annotations

import os

# Read when LiteLLM is imported; without it LiteLLM fetches its cost map from the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
