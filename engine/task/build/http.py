"""
Http: the HTTP client of an api, made from its options.

Owns the translation into what `source` takes for a request, and nothing that runs.

Path: `build.sources`, the commands that look at requests -> here -> ``source``
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

from engine.config import Api, Secret, Values
from engine.config.sections.auth import AuthConfig, OAuthConfig
from engine.config.sections.borders import (
    BordersConfig,
    CertificatesConfig,
    ProxyConfig,
)
from engine.config.sections.client import BalancingConfig, ClientConfig, PoolConfig
from engine.config.sections.limits import (
    RateLimitConfig,
    RetryConfig,
)
from engine.config.sections.request import RequestConfig
from engine.config.sections.response import AnswersConfig
from engine.config.sections.section import needed
from engine.config.sections.tls import TlsConfig
from engine.config.shapes import status_codes
from engine.source.decode.answers import Errors
from engine.source.fetch.policy import RetryPolicy
from engine.source.paging.request import behind
from engine.source.wire.options import HttpOptions, ProxyOptions
from engine.source.wire.origin import AddressRules, AllowedOrigins, origin_of
from engine.source.wire.pool import Pool, PoolOptions
from engine.source.wire.tls import TlsOptions


def pool_of(values: Values) -> Pool:
    """The task's connections, from the connector's values."""
    pool = values.of(PoolConfig)
    return Pool(
        PoolOptions(
            enabled=pool.enabled,
            max_connections=pool.max_connections,
            max_per_route=pool.max_per_route,
            keep_alive=pool.keep_alive,
            keep_alive_duration=pool.keep_alive_duration,
            keep_alive_requests=pool.keep_alive_requests,
            validate_after=pool.validate_after,
            cleanup=pool.cleanup,
            cleanup_interval=pool.cleanup_interval,
            max_idle=pool.max_idle,
            buffer_size=pool.buffer_size,
            dns_ttl=float(pool.dns_ttl),
        )
    )


def url_of(values: Values, url: str | None = None) -> str:
    """
    The logical URL template of an api, absolute.

    Args:
        url: Another one of the same api.
    """
    url = str(values.of(RequestConfig).url) if url is None else url
    base = values.of(RequestConfig).base_url or first(
        values.of(BalancingConfig).endpoints
    )
    if base is not None and "://" not in url.split("${", 1)[0]:
        return behind(str(base), url)
    return url


def first(found: Sequence[str] | None) -> str | None:
    """The first of a list, None without."""
    return found[0] if found else None


def tri(word: str) -> bool | None:
    """True, False, or None for `auto`."""
    return {"auto": None, "true": True, "false": False}[word.lower()]


def reveal(secret: Secret | None) -> str | None:
    """A secret's text, None if unset; to be handed on, never kept."""
    return None if secret is None else secret.reveal()


def http_options(api: Api) -> HttpOptions:
    """The HTTP keys of one api in seconds and bytes."""
    values = api.values
    homes = [
        url_of(values).split("${", 1)[0],
        *(values.of(BalancingConfig).endpoints or ()),
    ]
    origins = tuple(dict.fromkeys(origin_of(home) for home in homes))
    location = values.of(TlsConfig, at="https.ssl.").keystore_location
    trust = values.of(TlsConfig, at="https.ssl.").truststore_location
    return HttpOptions(
        connect_timeout=values.of(ClientConfig).connect_timeout,
        socket_timeout=values.of(ClientConfig).socket_timeout,
        request_timeout=values.of(ClientConfig).request_timeout,
        max_response=values.of(ClientConfig).max_response,
        encodings=(
            tuple(values.of(ClientConfig).compression_types)
            if values.of(ClientConfig).compression
            else ()
        ),
        idempotent=values.of(RequestConfig).idempotent,
        # Only JSON proves its own end where a body ends with its connection.
        close_delimited=values.of(AnswersConfig).format == "json",
        proxy=proxy_of(values),
        no_proxy=tuple(values.of(ProxyConfig).exceptions or ()),
        redirects=values.of(BordersConfig).redirects,
        lenient=values.of(ClientConfig).parser == "LENIENT",
        redirect_body=values.of(BordersConfig).redirect_body,
        tls=TlsOptions(
            ca_file=None if trust is None else str(trust),
            ca_pem=reveal(
                values.of(TlsConfig, at="https.ssl.").truststore_certificates
            ),
            cert_file=None if location is None else str(location),
            cert_pem=reveal(
                values.of(TlsConfig, at="https.ssl.").keystore_certificate_chain
            ),
            key_pem=reveal(values.of(TlsConfig, at="https.ssl.").keystore_key),
            key_password=reveal(values.of(TlsConfig, at="https.ssl.").key_password),
            protocols=tuple(values.of(TlsConfig, at="https.ssl.").protocols),
            ciphers=tuple(values.of(TlsConfig, at="https.ssl.").ciphers or ()),
            check_hostname=values.of(TlsConfig, at="https.ssl.").identification
            != "none",
            verify=values.of(CertificatesConfig).verify,
            pins=tuple(values.of(CertificatesConfig).pins or ()),
            seclevel=values.of(CertificatesConfig).seclevel,
            renegotiation=values.of(CertificatesConfig).renegotiation,
        ),
        addresses=AddressRules(
            home=tuple(origin.host for origin in origins),
            local=tri(values.of(BordersConfig).local),
            private=tri(values.of(BordersConfig).private),
            class_e=values.of(BordersConfig).class_e,
            disallow=tuple(values.of(BordersConfig).disallow or ()),
            allow=tuple(values.of(BordersConfig).allow or ()),
        ),
        borders=AllowedOrigins(
            origins,
            tuple(values.of(BordersConfig).allowed_hosts or ()),
            tuple(values.of(OAuthConfig).base_hosts or ()),
        ),
    )


def proxy_of(values: Values) -> ProxyOptions | None:
    """`http.proxy.*`."""
    proxy = values.of(ProxyConfig)
    if proxy.host is None:
        return None
    return ProxyOptions(
        proxy.host, needed(proxy.port), proxy.user, reveal(proxy.password)
    )


def policy_of(values: Values) -> RetryPolicy:
    """`max.retries` and `retry.*` in seconds."""
    return RetryPolicy(
        max_retries=values.of(RetryConfig).max_retries,
        backoff=values.of(RetryConfig).backoff,
        backoff_max=values.of(RetryConfig).backoff_max,
        exponential=values.of(RetryConfig).backoff_policy == "EXPONENTIAL_WITH_JITTER",
        statuses=values.of(RetryConfig).statuses,
        process=values.of(AnswersConfig).status_process,
        empty=values.of(AnswersConfig).status_empty,
        idempotent=values.of(RequestConfig).idempotent,
        respect=values.of(RateLimitConfig).respect,
        credentials=(
            values.of(AuthConfig).type != "NONE"
            or values.of(AuthConfig).auth_class is not None
        ),
        stale=(
            values.of(AuthConfig).renew_statuses
            if values.of(AuthConfig).type in ("OAUTH2", "LOGIN")
            else frozenset()
        ),
        errors=errors_of(values),
    )


def errors_of(values: Values) -> Errors:
    """How an api says that something is wrong: `http.response.error.*`."""
    return Errors(
        values.of(AnswersConfig).error_rules or (),
        message=values.of(AnswersConfig).error_message_field,
        partial=values.of(AnswersConfig).graphql_partial == "ALLOW",
        statuses=status_codes,
    )


def pairs(text: str | None) -> tuple[tuple[str, str], ...]:
    """`a=b&c=d` as pairs, percent-decoded."""
    return tuple(parse_qsl(text or "", keep_blank_values=True))
