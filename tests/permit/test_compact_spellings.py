import contextlib

import pytest
from permit_signing import encode

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import parse_compact

HEADER = b'{"alg":"ES256","kid":"k","typ":"permit+jwt"}'
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("letter", LETTERS)
def test_a_segment_may_end_in_any_letter(letter):
    signature = bytes([0, 0, LETTERS.index(letter)])
    assert encode(signature).endswith(letter)

    assert parse_compact(f"{encode(HEADER)}.e30.{encode(signature)}", max_bytes=256).signature == signature


@pytest.mark.parametrize(
    ("start", "unused_bits"), [("Y", 4), ("YW", 2)], ids=["two-letters", "three-letters"]
)
def test_the_bits_that_a_last_letter_leaves_over_must_be_zero(start, unused_bits):  # R15
    accepted = set()
    for letter in LETTERS:
        with contextlib.suppress(PermitRejected):
            parse_compact(f"{encode(HEADER)}.e30.{start}{letter}", max_bytes=256)
            accepted.add(letter)

    assert accepted == set(LETTERS[:: 2**unused_bits])


def test_the_longest_kid_is_read():
    header = b'{"alg":"ES256","kid":"%s"}' % (b"k" * 64)

    assert parse_compact(f"{encode(header)}.e30.YWJj", max_bytes=256).header.kid == "k" * 64


def test_a_longer_kid_is_malformed():
    header = b'{"alg":"ES256","kid":"%s"}' % (b"k" * 65)

    with pytest.raises(PermitRejected) as caught:
        parse_compact(f"{encode(header)}.e30.YWJj", max_bytes=256)

    assert caught.value.reason is Reason.PERMIT_MALFORMED
