"""Where a request may go: links, redirects, addresses."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from engine.errors import Forbidden
from engine.source.wire.origin import (
    AddressGuard,
    AddressRules,
    AllowedOrigins,
    Origin,
    host_of,
    origin_of,
    shown,
)

BASE = "https://api.example.com/v1/items?page=1"
HOME = AllowedOrigins(
    (Origin("https", "api.example.com", 443),),
    ("cdn.example.net", "*.example.org:8443"),
)


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        ("?page=2", "https://api.example.com/v1/items?page=2"),
        ("/v1/items?page=2", "https://api.example.com/v1/items?page=2"),
        ("next", "https://api.example.com/v1/next"),
        ("../x", "https://api.example.com/x"),
        ("https://API.Example.COM/a", "https://api.example.com/a"),
        ("https://api.example.com./a", "https://api.example.com/a"),
        ("https://api.example.com:443/a", "https://api.example.com/a"),
        ("//api.example.com/a", "https://api.example.com/a"),
        ("/a b?q=\u00e9#frag", "https://api.example.com/a%20b?q=%C3%A9"),
        ("/a%2Fb?q=%20", "https://api.example.com/a%2Fb?q=%20"),
        ("https://cdn.example.net/x", "https://cdn.example.net/x"),
        ("https://a.b.example.org:8443/x", "https://a.b.example.org:8443/x"),
    ],
)
def test_a_link_that_may_be_followed(link: str, leads_to: str) -> None:
    assert leads_to == HOME.follow(BASE, link)


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/",
        "http://api.example.com/a",
        "https://api.example.com:8443/a",
        "https://api@evil.example/",
        "https://api.example.com@evil.example/",
        "https://user:pw@api.example.com/",
        "//evil.example/a",
        "https:\\\\evil.example/a",
        "/\\evil.example/a",
        "https://93.184.216.34/a",
        "https://example.org:8443/a",
        "https://notexample.org:8443/a",
        "https://cdn.example.net:444/a",
        "https://\u0430pi.example.com/a",
        "file:///etc/passwd",
        "ftp://api.example.com/",
        "javascript:alert(1)",
        "/a\r\nX-Evil: 1",
        "/a\0b",
        "https://api.example.com:99999/",
        "https://[::1",
        "/" + "a" * 8200,
    ],
)
def test_a_link_that_leads_astray(link: str) -> None:
    with pytest.raises(Forbidden):
        HOME.follow(BASE, link)


def test_https_never_leads_down_to_http_even_if_listed() -> None:
    borders = AllowedOrigins(HOME.home, ("api.example.com:80",))
    with pytest.raises(Forbidden, match="down to http"):
        borders.follow(BASE, "http://api.example.com/a")


def test_an_international_name_is_compared_as_it_is_asked_for() -> None:
    assert Origin("https", "xn--bcher-kva.example", 443) == origin_of(
        "https://B\u00fccher.example/x"
    )


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("93.184.216.34", False),
        ("2606:2800:220:1::1", False),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("192.168.1.1", True),
        ("100.64.0.1", True),
        ("fd00::1", True),
        ("fec0::1", True),
        ("169.254.169.254", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:7f00:1::", True),
        ("fe80::1%eth0", True),
        ("224.0.0.1", True),
        ("ff02::1", True),
        ("0.0.0.0", True),
        ("0.1.2.3", True),
        ("::", True),
        ("240.0.0.1", True),
        ("255.255.255.255", True),
    ],
)
def test_an_address_off_the_public_net(address: str, refused: bool) -> None:
    guard = AddressGuard(AddressRules())
    if refused:
        with pytest.raises(Forbidden, match="not connected"):
            guard.check("api.example.com", [address])
    else:
        guard.check("api.example.com", [address])


METADATA = [
    *("169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.23"),
    *("169.254.42.42", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42"),
    "fd00:c1::a9fe:a9fe",
]


def carried(v4: str) -> list[str]:
    """An IPv4 address in every wrapping of IPv6."""
    n = int(ip_address(v4))
    high, low = n >> 16, n & 0xFFFF
    return [
        f"::ffff:{v4}",
        f"::{v4}",
        f"::ffff:0:{high:x}:{low:x}",
        f"64:ff9b::{high:x}:{low:x}",
        f"64:ff9b:1::{high:x}:{low:x}",
        # RFC 6052: /48 with an empty octet in the middle, /64 behind one.
        f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 255) << 8:x}::",
        f"64:ff9b:1:abcd:{n >> 24:x}:{n >> 8 & 0xFFFF:x}:{(n & 255) << 8:x}:0",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}::ffff:ffff",
        f"2001:0:5db8:d822::{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}",
        f"fe80::5efe:{high:x}:{low:x}",
        f"2a00:1450::200:5efe:{high:x}:{low:x}",
    ]


@pytest.mark.parametrize(
    "address",
    [
        *METADATA,
        *(each for v4 in METADATA if "." in v4 for each in carried(v4)),
        *carried("127.0.0.1"),
        *carried("10.0.0.1"),
        *carried("192.168.1.1"),
        *carried("100.64.0.1"),
        *carried("240.0.0.1"),
    ],
)
def test_no_wrapping_hides_an_address(address: str) -> None:
    with pytest.raises(Forbidden, match="not connected"):
        AddressGuard(AddressRules()).check("api.example.com", [address])


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "2a00:1450:4001::1"]
    + [
        each
        for each in carried("93.184.216.34")
        if each[:3] not in ("64:", "fe8") and not each.endswith("::ffff:ffff")
    ]
    + ["64:ff9b::5db8:d822"],
)
def test_what_is_public_inside_is_public(address: str) -> None:
    AddressGuard(AddressRules()).check("api.example.com", [address])


@pytest.mark.parametrize("address", METADATA)
def test_metadata_is_open_to_those_who_name_it_only(address: str) -> None:
    for rules in (AddressRules(local=False, private=False), AddressRules(home=("h",))):
        with pytest.raises(Forbidden):
            AddressGuard(rules).check("h", [address])

    AddressGuard(AddressRules(allow=(address,))).check("h", [address])


def test_home_may_be_local_and_then_other_hosts_there_are_fine() -> None:
    guard = AddressGuard(AddressRules(home=("api.local",)))
    with pytest.raises(Forbidden):
        guard.check("other.local", ["127.0.0.1"])
    guard.check("api.local", ["127.0.0.1"])
    guard.check("other.local", ["127.0.0.2"])
    with pytest.raises(Forbidden, match="private"):
        guard.check("other.local", ["10.0.0.1"])


def test_a_home_that_moves_inside_is_refused() -> None:
    guard = AddressGuard(AddressRules(home=("api.example.com",)))
    guard.check("api.example.com", ["93.184.216.34"])

    with pytest.raises(Forbidden, match="private"):
        guard.check("api.example.com", ["10.0.0.1"])


@pytest.mark.parametrize(
    ("rules", "address", "refused"),
    [
        (AddressRules(home=("h",), local=True), "127.0.0.1", True),
        (AddressRules(local=False), "127.0.0.1", False),
        (AddressRules(private=False), "10.0.0.1", False),
        (AddressRules(private=True, allow=("10.0.0.0/8",)), "10.0.0.1", False),
        (AddressRules(allow=("169.254.0.0/16",)), "169.254.1.1", False),
        (AddressRules(local=False), "169.254.1.1", True),
        (AddressRules(disallow=("93.184.0.0/16",)), "93.184.216.34", True),
        (AddressRules(disallow=("93.0.0.0/8",), allow=("93.184.216.34/32",)),
         "93.184.216.34", False),
        (AddressRules(class_e=False), "240.0.0.1", False),
    ],
)  # fmt: skip
def test_the_keys_of_addresses(
    rules: AddressRules, address: str, refused: bool
) -> None:
    guard = AddressGuard(rules)
    if refused:
        with pytest.raises(Forbidden):
            guard.check("h", [address])
    else:
        guard.check("h", [address])


def test_a_url_is_shown_without_its_secrets() -> None:
    url = "https://u:p@api.example/x?page=1&api_key=abc&Signature=zzz#frag"

    assert "abc" not in shown(url)
    assert "zzz" not in shown(url)
    assert "u:p" not in shown(url)
    assert "page=1" in shown(url)


def test_a_host_is_counted_with_its_port() -> None:
    assert "api.example.com" == host_of("https://API.example.com/x")
    assert "127.0.0.1:8080" == host_of("http://127.0.0.1:8080")
