"""What every block of the policy is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,128}$")]


class StrictModel(BaseModel):
    """What every block is: closed, typed and unchanging."""

    # The docstring below a field is its row in docs/configuration.md.
    # hide_input_in_errors: a traceback must not show a secret that stands in the wrong place.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )
