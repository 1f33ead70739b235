"""Ways to prove who we are: what each needs, what belongs to another."""

from __future__ import annotations

import pytest

from engine.config import keys
from engine.config.authentication import TYPES
from engine.task.build.auth import MAKERS
from tests.config.conftest import Files

OAUTH = "auth.type=OAUTH2\noauth2.token.url=https://l.example.com/t\n"
CLIENT = "oauth2.client.id=me\noauth2.client.secret=canary\n"
JWT = "oauth2.jwt.key=-----BEGIN canary\n"
LOGIN = "auth.type=LOGIN\nauth.login.url=https://l.example.com/login\n"
PAIR = "connection.user=me\nconnection.password=canary\n"

#: What is right as it is.
WHOLE = [
    f"auth.type=BASIC\n{PAIR}",
    f"auth.type=DIGEST\n{PAIR}",
    OAUTH + CLIENT,
    f"{OAUTH}{CLIENT}oauth2.grant.type=password\noauth2.username=a\noauth2.password=canary",
    (OAUTH + "oauth2.client.id=me\noauth2.client.auth.mode=NONE\n"
    "oauth2.grant.type=password\noauth2.username=a\noauth2.password=canary"),
    (OAUTH + "oauth2.client.id=me\noauth2.client.auth.mode=NONE\n"
    "oauth2.grant.type=refresh_token\noauth2.refresh.token=canary"),
    f"{OAUTH}oauth2.grant.type=jwt_bearer\n{JWT}oauth2.jwt.issuer=me",
    f"{OAUTH}oauth2.client.id=me\noauth2.grant.type=jwt_bearer\n{JWT}",
    (f'{OAUTH}oauth2.grant.type=jwt_bearer\noauth2.jwt.key={{"private_key":"canary"}}\n'
     'oauth2.jwt.claims={"scope":"a"}'),
    f"{OAUTH}oauth2.client.id=me\noauth2.client.auth.mode=JWT\n{JWT}",
    (f"{OAUTH}{CLIENT}auth.renew.status=401,403\noauth2.token.request.format=JSON\n"
    "oauth2.token.type=RESPONSE\noauth2.base.url.property=instance_url\n"
    "oauth2.base.url.hosts=*.my.salesforce.com"),
    LOGIN,
    (f"{LOGIN}{PAIR}auth.login.body={{\"u\":\"${{user}}\",\"p\":\"${{password}}\"}}\n"
    "auth.login.token.path=data.token\nauth.login.send.name=X-T\n"
    "auth.login.renew.after.seconds=1500"),
    f"{LOGIN}auth.login.token.cookie=sid\nauth.login.send.location=COOKIE",
    "auth.type=LOGIN\nauth.login.url=/login\nauth.login.token.path=$",
    "http.cookies=POLL",
    "auth.type=BEARER\nauth.credentials=canary1,canary2",
    "auth.type=API_KEY\nauth.credentials=canary1,canary2\napi.key.location=QUERY",
    "auth.type=BASIC\nauth.credentials=a:canary1,b:canary2",
    ("http.proxy.host=p\nhttp.proxy.port=1\n"
    "http.proxy.exceptions=a.example.com,*.internal,10.0.0.0/8,[::1]:80,::1/128"),
]  # fmt: skip

#: A document, the key that is to blame, a word of the message.
ERRORS = [
    ("auth.type=DIGEST", "connection.user", "auth.type=DIGEST"),
    ("auth.type=BEARER\nauth.credentials=canary1", "auth.credentials", "two or more"),
    ("auth.type=BEARER\nauth.credentials=canary,canary", "auth.credentials", "twice"),
    ("auth.type=BASIC\nauth.credentials=canary1,canary2", "auth.credentials",
     "user:password"),
    ("auth.type=BEARER\nbearer.token=canary\nauth.credentials=canary1,canary2",
     "bearer.token", "leave one"),
    ("auth.type=OAUTH2\nauth.credentials=canary1,canary2", "auth.credentials",
     "auth.type=BASIC or BEARER or API_KEY"),
    (f"auth.type=BEARER\nbearer.token=x\n{PAIR}", "connection.user",
     "BASIC or LOGIN or DIGEST"),
    (OAUTH, "oauth2.client.id", "required"),
    (OAUTH, "oauth2.client.secret", "required"),
    (f"{OAUTH}{CLIENT}oauth2.grant.type=password", "oauth2.username", "grant.type"),
    (f"{OAUTH}{CLIENT}oauth2.grant.type=password", "oauth2.password", "grant.type"),
    (f"{OAUTH}{CLIENT}oauth2.username=a", "oauth2.username", "grant.type=password"),
    (f"{OAUTH}{CLIENT}oauth2.grant.type=refresh_token", "oauth2.refresh.token", "grant"),
    (f"{OAUTH}oauth2.grant.type=jwt_bearer", "oauth2.jwt.key", "jwt_bearer"),
    (f"{OAUTH}oauth2.grant.type=jwt_bearer\n{JWT}", "oauth2.jwt.issuer", "client.id"),
    (f"{OAUTH}{CLIENT}{JWT}", "oauth2.jwt.key", "jwt_bearer"),
    (f"{OAUTH}{CLIENT}oauth2.jwt.subject=a", "oauth2.jwt.subject", "jwt_bearer"),
    (f"{OAUTH}oauth2.client.id=me\noauth2.client.auth.mode=NONE",
     "oauth2.client.auth.mode", "proves nothing"),
    (f"{OAUTH}oauth2.client.id=me\noauth2.client.auth.mode=JWT", "oauth2.jwt.key", "JWT"),
    (f"{OAUTH}{CLIENT}oauth2.base.url.hosts=a.com", "oauth2.base.url.hosts", "property"),
    (f"{OAUTH}{CLIENT}oauth2.jwt.claims=[1]", "oauth2.jwt.claims", "object"),
    (f"{OAUTH}{CLIENT}auth.renew.status=200", "auth.renew.status", "error rule"),
    (f"{OAUTH}{CLIENT}auth.renew.status=400-500", "auth.renew.status", "error rule"),
    ("auth.renew.status=403", "auth.renew.status", "OAUTH2 or LOGIN"),
    ("auth.type=LOGIN", "auth.login.url", "required"),
    ("auth.type=LOGIN\nauth.login.url=http://l.example.com/x", "auth.login.url", "https"),
    (f"{LOGIN}auth.login.token.path=a\nauth.login.token.header=B",
     "auth.login.token.header", "leave one out"),
    (f"{LOGIN}auth.login.send.name=B", "auth.login.send.name", "all cookies"),
    (f"{LOGIN}auth.login.token.path=a\nauth.login.send.location=COOKIE",
     "auth.login.send.name", "required"),
    (f"{LOGIN}auth.login.token.path=a\nauth.login.send.template=x",
     "auth.login.send.template", "nothing is sent"),
    (f"{LOGIN}auth.login.method=GET\nauth.login.body=a=b", "auth.login.body", "POST"),
    (f"{LOGIN}auth.login.body=a=${{user}}", "connection.user", "auth.login.body"),
    (f"{LOGIN}auth.login.body=a=${{other}}", "auth.login.body", "other"),
    (f"{LOGIN}auth.login.body={{\"a\":\"b", "auth.login.body", ""),
    (f"{LOGIN}bearer.token=x", "bearer.token", "auth.type=BEARER"),
    ("auth.login.url=https://a.example.com", "auth.login.url", "auth.type=LOGIN"),
    ("http.proxy.exceptions=a.com", "http.proxy.exceptions", "http.proxy.host"),
    ("http.proxy.host=p\nhttp.proxy.port=1\nhttp.proxy.exceptions=a b",
     "http.proxy.exceptions", "host"),
    ("http.proxy.host=p\nhttp.proxy.port=1\nhttp.proxy.exceptions=10.0.0.0/99",
     "http.proxy.exceptions", "network"),
    ("https.ssl.seclevel=6", "https.ssl.seclevel", "0..5"),
]  # fmt: skip


@pytest.mark.parametrize("text", WHOLE)
def test_what_is_whole(files: Files, text: str) -> None:
    files.load(text)


@pytest.mark.parametrize(("text", "key", "word"), ERRORS)
def test_what_is_not(files: Files, text: str, key: str, word: str) -> None:
    found = files.errors(text)

    assert [each for each in found if each.key == key and word in each.message], found
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("https.ssl.seclevel=1", "https.ssl.seclevel"),
        ("https.ssl.legacy.renegotiation=true", "https.ssl.legacy.renegotiation"),
    ],
)
def test_what_is_warned_of(files: Files, text: str, key: str) -> None:
    assert [each for each in files.load(text).findings if each.key == key]


def test_each_type_has_keys_and_a_maker() -> None:
    assert set(TYPES) == set(MAKERS)
    for way in TYPES.values():
        assert all(any(key.startswith(own) for key in keys.TABLE) for own in way.keys)


@pytest.mark.parametrize(
    ("text", "name", "template"),
    [
        ("token.path=a", "Authorization", "Bearer ${token}"),
        ("token.path=a\nauth.login.send.name=X", "X", "${token}"),
        ("token.path=a\nauth.login.send.location=QUERY", "token", "${token}"),
        ("token.cookie=sid\nauth.login.send.location=COOKIE", "sid", "${token}"),
    ],
)
def test_how_a_login_is_sent_by_itself(
    files: Files, text: str, name: str, template: str
) -> None:
    text = f"{LOGIN}auth.login.{text}"

    assert name == files.value(text, "auth.login.send.name")
    assert template == files.value(text, "auth.login.send.template")
