"""Published JOSE examples, run against the signature layer as they stand in their RFCs."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

import pytest

from litellm_plugin.errors import PermitRejected, Reason
from litellm_plugin.permit import CompactToken, JoseHeader, KeySet, parse_jwks, symmetric_keys, verify_compact
from litellm_plugin.permit.signature import verify_signature


@dataclass(frozen=True)
class Vector:
    """An example: its source, public key, compact form (signing input and signature) and payload."""

    source: str
    alg: str
    key: dict[str, str]
    signing_input: str
    signature: str
    payload: bytes
    is_ours: bool = field(default=True)  # whether the header keeps to our form

    @property
    def token(self) -> str:
        return f"{self.signing_input}.{self.signature}"

    @property
    def keys(self) -> KeySet:
        if self.alg == "HS256":
            return symmetric_keys(decode(self.key["k"]), kid=self.key.get("kid"))
        # Without the id, which may have another form than ours; the examples name one key only.
        key = {name: value for name, value in self.key.items() if name != "kid"}
        return parse_jwks(json.dumps({"keys": [key]}).encode(), frozenset({self.alg})).with_rule(
            kid_optional=True
        )


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


JOE = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
JOE_BASE64 = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
FRODO = (
    "It\u2019s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't "
    "keep your feet, there\u2019s no knowing where you might be swept off to."
).encode()
FRODO_BASE64 = (
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9h"
    "ZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3"
    "ZXB0IG9mZiB0by4"
)
BILBO_RSA = {
    "kty": "RSA",
    "kid": "bilbo.baggins@hobbiton.example",
    "use": "sig",
    "e": "AQAB",
    "n": (
        "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKr"
        "Kb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5l"
        "FHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__"
        "kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"
    ),
}

VECTORS = [
    Vector(
        source="RFC 7515 A.1",
        alg="HS256",
        key={"k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
        signing_input=f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE_BASE64}",
        signature="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        payload=JOE,
    ),
    Vector(
        source="RFC 7515 A.2",
        alg="RS256",
        key={
            "kty": "RSA",
            "e": "AQAB",
            "n": (
                "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR"
                "T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB"
                "dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia"
                "GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
            ),
        },
        signing_input=f"eyJhbGciOiJSUzI1NiJ9.{JOE_BASE64}",
        signature=(
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb"
            "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383"
            "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy"
            "wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        ),
        payload=JOE,
    ),
    Vector(
        source="RFC 7515 A.3",
        alg="ES256",
        key={
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        },
        signing_input=f"eyJhbGciOiJFUzI1NiJ9.{JOE_BASE64}",
        signature="DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        payload=JOE,
    ),
    Vector(
        source="RFC 7515 A.4",
        alg="ES512",
        key={
            "kty": "EC",
            "crv": "P-521",
            "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
            "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
        },
        signing_input="eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA",
        signature=(
            "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgo"
            "XD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
        ),
        payload=b"Payload",
    ),
    Vector(
        source="RFC 8037 A.4",
        alg="EdDSA",
        key={"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        signing_input="eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        signature="hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        payload=b"Example of Ed25519 signing",
    ),
    Vector(
        source="RFC 7520 4.1",
        alg="RS256",
        key=BILBO_RSA,
        signing_input=f"eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{FRODO_BASE64}",
        signature=(
            "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB"
            "-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxn"
            "t8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcI"
            "e8u9ipH84ogoree7vjbU5y18kDquDg"
        ),
        payload=FRODO,
        is_ours=False,
    ),
    Vector(
        source="RFC 7520 4.2",
        alg="PS384",
        key=BILBO_RSA,
        signing_input=f"eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{FRODO_BASE64}",
        signature=(
            "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6"
            "_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3"
            "lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6G"
            "YmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw"
        ),
        payload=FRODO,
        is_ours=False,
    ),
    Vector(
        source="RFC 7520 4.3",
        alg="ES512",
        key={
            "kty": "EC",
            "kid": "bilbo.baggins@hobbiton.example",
            "use": "sig",
            "crv": "P-521",
            "x": "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
            "y": "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1",
        },
        signing_input=f"eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{FRODO_BASE64}",
        signature=(
            "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDy"
            "YjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2"
        ),
        payload=FRODO,
        is_ours=False,
    ),
    Vector(
        source="RFC 7520 4.4",
        alg="HS256",
        key={
            "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037",
            "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
        },
        signing_input=(
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9." + FRODO_BASE64
        ),
        signature="s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
        payload=FRODO,
    ),
]
OURS = [pytest.param(vector, id=vector.source) for vector in VECTORS if vector.is_ours]
OTHERS = [pytest.param(vector, id=vector.source) for vector in VECTORS if not vector.is_ours]


def verify(vector, token=None):
    keys = vector.keys.with_rule(kid_optional=True)
    return verify_compact(token or vector.token, keys, frozenset({vector.alg}))


@pytest.mark.parametrize("vector", OURS)
def test_published_example_is_verified(vector):
    assert verify(vector) == vector.payload


@pytest.mark.parametrize("vector", OTHERS)
def test_published_example_with_an_address_as_kid_is_malformed(vector):  # R38
    with pytest.raises(PermitRejected) as caught:
        verify(vector)
    assert (caught.value.reason, caught.value.detail) == (Reason.PERMIT_MALFORMED, "kid")


@pytest.mark.parametrize("vector", OTHERS)
def test_its_signature_is_verified_all_the_same(vector):
    token = CompactToken(
        JoseHeader(vector.alg), vector.payload, decode(vector.signature), vector.signing_input.encode()
    )

    assert verify_signature(token, vector.keys, frozenset({vector.alg})) == vector.payload


@pytest.mark.parametrize("vector", OURS)
def test_published_example_with_another_signature_is_refused(vector):  # R45
    signature = bytearray(decode(vector.signature))
    signature[len(signature) // 2] ^= 1
    changed = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    with pytest.raises(PermitRejected) as caught:
        verify(vector, f"{vector.signing_input}.{changed}")
    assert caught.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param(f"eyJhbGciOiJub25lIn0.{JOE_BASE64}.", Reason.PERMIT_MALFORMED, id="R21-RFC-7515-A.5"),
        pytest.param(
            f"eyJhbGciOiJub25lIn0.{JOE_BASE64}.AA", Reason.ALG_NOT_ALLOWED, id="R21-RFC-7515-A.5-signed"
        ),
    ],
)
def test_published_unsecured_token_is_refused(token, reason):
    with pytest.raises(PermitRejected) as caught:
        verify(VECTORS[1], token)
    assert caught.value.reason is reason
