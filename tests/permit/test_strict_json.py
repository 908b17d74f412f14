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


def named(count, value="1"):
    return ("{" + ",".join(f'"n{each}":{value}' for each in range(count)) + "}").encode()


# More colons than the parser in C is trusted with, inside text alone.
COLONS = b":" * 250_001


class TestNames:
    """An object may have 10,000 names; lists are not bounded."""

    def test_as_many_as_are_allowed_are_parsed(self):
        assert len(parse_strict_json(named(10_000))) == 10_000

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(named(10_001), id="whole-text"),
            pytest.param(b'{"a": [' + named(10_001) + b"]}", id="nested"),
            pytest.param(b"{" + b",".join([b'"a":1'] * 10_001) + b"}", id="of-one-name"),
        ],
    )
    @pytest.mark.parametrize("tail", [b"", COLONS], ids=["short", "long"])
    def test_one_more_is_refused(self, data, tail):
        with pytest.raises(StrictJsonError, match="an object with more than 10000 names"):
            parse_strict_json(b'["' + tail + b'", ' + data + b"]")

    def test_many_objects_may_have_more_together(self):
        assert len(parse_strict_json(b"[" + b",".join([named(2)] * 130_000) + b"]")) == 130_000

    def test_a_long_list_is_parsed(self):
        assert len(parse_strict_json(b"[" + b"1," * 100_000 + b"1]")) == 100_001

    @pytest.mark.parametrize(
        "data",
        [
            b'{"a": 1, "a": 1}',
            b'{"x": {"a": 1, "a": 2}}',
            b'{"a": NaN}',
            b'{"a": 1e400}',
            b'{"a":' * 100_000,
            b'{"a": 1,}',
        ],
    )
    def test_a_long_text_is_as_strict(self, data):
        with pytest.raises(StrictJsonError):
            parse_strict_json(b'["' + COLONS + b'", ' + data + b"]")

    def test_a_long_text_says_the_same(self):
        text = COLONS.decode()
        data = ('["' + text + '", {"a": 1, "b": {"c": [1.5, "é", null]}, "": {}}]').encode()
        assert parse_strict_json(data) == [text, {"a": 1, "b": {"c": [1.5, "é", None]}, "": {}}]
