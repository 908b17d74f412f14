"""What goes through a real proxy and says nothing of the permit's limits: tried on the locked LiteLLM alone."""

from __future__ import annotations

import sys
from pathlib import Path

# The fleet is the enforcement suite's.
sys.path.insert(0, str(Path(__file__).parent.parent / "enforcement"))
