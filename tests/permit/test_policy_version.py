import pytest

from litellm_plugin.permit.policy_version import is_at_least, order_of


@pytest.mark.parametrize(
    ("version", "minimum"),
    [
        pytest.param("42", "42", id="equal"),
        pytest.param("100", "99", id="integers-not-texts"),
        pytest.param("1.10", "1.9", id="dotted"),
        pytest.param("1.4", "1.4.0", id="trailing-zero"),
        pytest.param("0.0", "0.0.0", id="only-zeros"),
        pytest.param("2026-11-05", "2026-02-28", id="dates"),
    ],
)
def test_same_or_later_version_counts(version, minimum):
    assert is_at_least(version, minimum)


@pytest.mark.parametrize(
    ("version", "minimum"),
    [
        pytest.param("9", "10", id="R70-integer-below"),
        pytest.param("1.9", "1.10", id="R70-dotted-below"),
        pytest.param("2026-02-28", "2026-11-05", id="R70-date-below"),
        pytest.param("43", "42.1", id="R70-integer-against-dotted"),
        pytest.param("20261105", "2026-11-05", id="R70-integer-against-date"),
        pytest.param("v43", "42", id="R70-no-order"),
        pytest.param("2026-13-01", "2026-11-05", id="R70-no-such-day"),
        pytest.param("2027-W01-1", "2026-11-05", id="R70-day-of-a-week"),
        pytest.param("2026-11-06T00", "2026-11-05", id="R70-date-and-time"),
        pytest.param("1.4_5", "1.4.0", id="R70-dotted-with-underscore"),
        pytest.param("1.5-rc1", "1.4.0", id="R70-dotted-with-a-word"),
        pytest.param("4_3", "42", id="R70-integer-with-underscore"),
        pytest.param("43", "latest", id="R70-minimum-without-order"),
        pytest.param("-1", "0", id="R70-negative"),
        pytest.param("٤٣", "42", id="R70-arabic-digits"),
    ],
)
def test_earlier_or_incomparable_version_does_not(version, minimum):
    assert not is_at_least(version, minimum)


def test_free_text_has_no_order():
    assert order_of("latest") is None
