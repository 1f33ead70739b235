"""
Exposed: credentials that others can read on their way.

Owns the warnings of what goes over the network unencrypted, to the API, the schema
registry and the broker.  Each names what is sent and what to do.

Path: ``rules_between`` -> here
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from engine.config.entries import Findings
from engine.config.masking import names_secret
from engine.config.rules_http import open_http
from engine.config.scope import Scope
from engine.config.sections.auth import AuthConfig
from engine.config.sections.converters import ConverterConfig
from engine.config.sections.request import RequestConfig
from engine.config.values import Api, Connector, Values
from engine.observe.redact import sensitive

#: Mechanisms whose secret itself is sent; SCRAM proves that it is known.
_PLAIN = ("PLAIN", "OAUTHBEARER")


def check_exposed(connectors: Sequence[Connector], findings: Findings) -> None:
    """Warnings of every connector and api."""
    for connector in connectors:
        several = len(connector.apis) > 1
        for api in connector.apis:
            prefix = f"api{api.index}." if several else ""
            scope = Scope(api.values, prefix, findings)
            api_is_asked_encrypted(scope, api)
            registry_is_asked_encrypted(scope)
        broker_is_asked_encrypted(Scope(connector.values, "", findings))


def api_is_asked_encrypted(s: Scope, api: Api) -> None:
    place = _open_place(s)
    if place is None:
        return
    for what in _credentials(api.values):
        s.warn(
            place,
            f"credentials over http, unencrypted ({what}): write https://, or leave "
            "them out",
        )
        return


def _open_place(s: Scope) -> str | None:
    """The key whose URL is plain http off loopback, or None."""
    url, base = (
        str(s.of(RequestConfig).url or ""),
        str(s.of(RequestConfig).base_url or ""),
    )
    if open_http(url):
        return "http.source.url"
    relative = "://" not in url.partition("?")[0].partition("${")[0]
    return "http.api.base.url" if relative and open_http(base) else None


def _credentials(values: Values) -> Iterator[str]:
    """What an api sends that proves who we are, by the key that says so."""
    if values.of(AuthConfig).type != "NONE":
        yield f"auth.type={values.of(AuthConfig).type}"
    if values.of(AuthConfig).auth_class is not None:
        yield "http.auth.class"
    for key in values:
        name = key.removeprefix("http.source.header.")
        if name != key and sensitive(name) and values[key] is not None:
            yield key
    for name, _ in values.of(RequestConfig).headers or ():
        if sensitive(name):
            yield f"http.source.headers, {name}"
    for key in ("http.source.url", "http.source.query.params", "http.source.body"):
        text = str(values.get(key) or "")
        if key == "http.source.query.params" and text:
            text = f"?{text}"
        if names_secret(text):
            yield key


def registry_is_asked_encrypted(s: Scope) -> None:
    for side in ("key", "value"):
        url = f"{side}.converter.schema.registry.url"
        of = s.values.of(ConverterConfig, side=side)
        texts = of.registry_url or ()
        has_user = of.user_info is not None or any(
            urlsplit(text).username for text in texts
        )
        if has_user and any(map(open_http, texts)):
            s.warn(url, "the registry's credentials over http: write https://")


def broker_is_asked_encrypted(c: Scope) -> None:
    for prefix in ("", "producer.", "admin.override."):
        protocol = f"{prefix}security.protocol"
        stated = c.values.stated(protocol) or not prefix
        mechanism = c.values.get(f"{prefix}sasl.mechanism")
        if stated and c[protocol] == "SASL_PLAINTEXT" and mechanism in _PLAIN:
            c.warn(
                protocol,
                f"sends the password unencrypted ({mechanism}): SASL_SSL, or a "
                "SCRAM mechanism"
                if mechanism == "PLAIN"
                else "sends the token unencrypted: SASL_SSL",
            )
        endpoint = f"{prefix}sasl.oauthbearer.token.endpoint.url"
        if open_http(str(c.values.get(endpoint) or "")):
            c.warn(endpoint, "the client's secret over http: write https://")
