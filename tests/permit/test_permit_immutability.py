import dataclasses

import pytest

from litellm_plugin import permit
from litellm_plugin.permit import replay

VALUES = {
    name: value
    for module in (permit, replay)
    for name, value in vars(module).items()
    if isinstance(value, type) and dataclasses.is_dataclass(value)
}


def test_the_values_are_found():
    assert {
        "Permit",
        "ClaimPolicy",
        "IssuerTrust",
        "KeySet",
        "VerificationKey",
        "TokenLayout",
    } <= VALUES.keys()


@pytest.mark.parametrize("name", VALUES)
def test_nothing_of_a_value_changes_once_it_was_checked(name):
    value = object.__new__(VALUES[name])

    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, "another")
    assert not hasattr(value, "__dict__")
