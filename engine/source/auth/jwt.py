"""
Jwt: a signed assertion about who asks.

Owns the claims, their signature, and the reading of a key: PEM text, or the JSON file
that Google gives for a service account.  Sends nothing, and shows no key.

Path: `source.auth.oauth` (each token request) -> here; GATE cryptography
Source: RFC 7515, 7518, 7519, 7523.
"""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from engine.errors import ConfigError
from engine.later import later
from engine.observe.redact import REDACTOR

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
else:
    _AT = "cryptography.hazmat.primitives"
    hashes, serialization = later(f"{_AT}.hashes"), later(f"{_AT}.serialization")
    ec, padding = later(f"{_AT}.asymmetric.ec"), later(f"{_AT}.asymmetric.padding")
    rsa, utils = later(f"{_AT}.asymmetric.rsa"), later(f"{_AT}.asymmetric.utils")

#: What `oauth2.jwt.algorithm` may be; those of HS need no library.
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "HS256", "HS384", "HS512",
)  # fmt: skip

#: Bytes of a number in a signature, by curve (RFC 7518, 3.4).
_CURVES = {"ES256": ("secp256r1", 32), "ES384": ("secp384r1", 48),
           "ES512": ("secp521r1", 66)}  # fmt: skip


class JwtOptions(Struct, frozen=True, kw_only=True):
    """
    `oauth2.jwt.*`.

    Attributes:
        key: PEM, Google's JSON of a service account, or for HS the secret itself.
        issuer, key_id: "": those of that JSON.
        claims: Further ones; they win over ours.
        lifetime: Seconds.
    """

    key: str
    password: str | None = None
    algorithm: str = "RS256"
    key_id: str = ""
    issuer: str = ""
    subject: str = ""
    audience: str = ""
    claims: Mapping[str, Any] = {}
    lifetime: int = 300

    def __repr__(self) -> str:
        return f"JwtOptions({self.algorithm})"


class Assertions:
    """
    Makes assertions of one issuer, a new one for each request.

    Raises: ConfigError: a key that cannot be read or does not fit the algorithm.
    """

    def __init__(self, options: JwtOptions):
        self._options = options
        REDACTOR.learn(options.key)
        pem, self._account = _account(options.key)
        self._key: Any = pem.encode()
        if not options.algorithm.startswith("HS"):
            self._key = _private(pem, options)

    def make(self, now: float, audience: str) -> str:
        """
        An assertion, good from now on.

        Args:
            now: Seconds since 1970.
            audience: Where none is stated.
        """
        options, account = self._options, self._account
        issuer = options.issuer or account.get("client_email", "")
        claims: dict[str, Any] = {
            "iss": issuer,
            "sub": options.subject or issuer,
            "aud": options.audience or audience,
            "iat": int(now),
            "exp": int(now) + options.lifetime,
            "jti": uuid.uuid4().hex,
            **options.claims,
        }
        head = {"alg": options.algorithm, "typ": "JWT"}
        key_id = options.key_id or account.get("private_key_id", "")
        if key_id:
            head["kid"] = key_id
        # A claim that is null is left out: Google wants no `sub` without delegation.
        claims = {name: value for name, value in claims.items() if value is not None}
        text = f"{_encoded(head)}.{_encoded(claims)}"
        made = f"{text}.{_base64(self._sign(text.encode()))}"
        REDACTOR.learn(made)
        return made

    def _sign(self, text: bytes) -> bytes:
        algorithm = self._options.algorithm
        kind, bits = algorithm[:2], algorithm[2:]
        if kind == "HS":
            return hmac.digest(self._key, text, f"sha{bits}")
        digest = getattr(hashes, f"SHA{bits}")()
        if kind == "ES":
            der = self._key.sign(text, ec.ECDSA(digest))
            size = _CURVES[algorithm][1]
            r, s = utils.decode_dss_signature(der)
            return bytes(r.to_bytes(size, "big") + s.to_bytes(size, "big"))
        filled: Any = padding.PKCS1v15()
        if kind == "PS":
            filled = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return bytes(self._key.sign(text, filled, digest))


def _account(text: str) -> tuple[str, dict[str, str]]:
    """The key in a text, and what Google's JSON says beside it."""
    if not text.lstrip().startswith("{"):
        return text, {}
    try:
        document = json.loads(text)
    except ValueError:
        raise ConfigError("oauth2.jwt.key: neither PEM nor JSON") from None
    found = {name: value for name, value in document.items() if isinstance(value, str)}
    key = found.pop("private_key", "")
    if not key:
        raise ConfigError("oauth2.jwt.key: JSON without private_key")
    return key, found


def _private(pem: str, options: JwtOptions) -> Any:
    # Read from an environment variable a PEM has its line ends spelt.
    text = pem.replace("\\n", "\n").strip().encode() + b"\n"
    password = None if options.password is None else options.password.encode()
    try:
        key = serialization.load_pem_private_key(text, password)
    except (ValueError, TypeError) as error:
        why = "its password is missing or wrong" if "assword" in str(error) else ""
        raise ConfigError(
            f"oauth2.jwt.key: no private key in PEM{': ' if why else ''}{why}"
        ) from None
    except Exception:  # noqa: BLE001 - an unsupported kind of key has many names
        raise ConfigError("oauth2.jwt.key: a kind of key that is not known") from None
    algorithm = options.algorithm
    if algorithm.startswith("ES"):
        fits = (
            isinstance(key, ec.EllipticCurvePrivateKey)
            and key.curve.name == _CURVES[algorithm][0]
        )
    else:
        fits = isinstance(key, rsa.RSAPrivateKey)
    if not fits:
        raise ConfigError(f"oauth2.jwt.key: not a key for {algorithm}")
    return key


def _encoded(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
