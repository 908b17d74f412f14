import pytest

from litellm_plugin.permit.strict_json import StrictJsonError, parse_strict_json


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="R48-empty"),
        pytest.param(b'{"a": 1, "a": 1}', id="R48-duplicate-name"),
        pytest.param(b'{"x": {"a": 1, "a": 2}}', id="R48-nested-duplicate-name"),
        pytest.param(b'{"a": NaN}', id="R48-nan"),
        pytest.param(b'{"a": -Infinity}', id="R48-infinity"),
        pytest.param(b'{"a": 1e400}', id="R48-float-overflow"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="R48-integer-of-5000-digits"),
        pytest.param(b"{} {}", id="R18-trailing-junk"),
        pytest.param(b"\xef\xbb\xbf{}", id="R15-bom"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="R15-utf-16"),
        pytest.param(b'{"a": "\xff"}', id="R15-not-utf-8"),
        pytest.param(b"[" * 100_000, id="R19-nested-100k-deep"),
        pytest.param(b'{"a":' * 100_000, id="R19-objects-100k-deep"),
    ],
)
def test_what_has_two_readings_is_refused(data):
    with pytest.raises(StrictJsonError):
        parse_strict_json(data)


def test_plain_json_is_parsed():
    assert parse_strict_json(' {"a": [1, 1.5, "é", null]}\n'.encode()) == {"a": [1, 1.5, "é", None]}
