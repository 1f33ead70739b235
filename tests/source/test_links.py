"""The Link header, RFC 8288."""

from __future__ import annotations

import pytest

from engine.source.links import link_of, without


@pytest.mark.parametrize(
    ("header", "target"),
    [
        (None, None),
        ("", None),
        ('</2>; rel="next"', "/2"),
        ("</2>; rel=next", "/2"),
        ("</2>;rel=NEXT", "/2"),
        ('</1>; rel="prev", </3>; rel="next"', "/3"),
        ('</1>; rel="prev next"', "/1"),
        ('</1>; title="a, <b>; rel=\\"next\\""; rel="prev", </2>; rel=next', "/2"),
        ('</1,2;3>; rel="next"', "/1,2;3"),
        ('</1>; rel="first"; rel="next"', None),
        ('</1>; rel="next"; anchor="/other"', None),
        ('</1>, </2>; rel="next"', "/2"),
        (', ,</1>; rel="next",', "/1"),
        ('</1> ; rel = "next" ; type="x"', "/1"),
        ("nonsense", None),
        ('</1>; rel="nextpage"', None),
        ('< /1 >; rel="next"', "/1"),
    ],
)
def test_the_first_link_of_the_relation_counts(
    header: str | None, target: str | None
) -> None:
    assert target == link_of(header, "next")


def test_a_long_hostile_header_costs_no_time() -> None:
    assert link_of("<a>;" + ' ;x="\\"' * 5000, "next") is None
    assert link_of("<a>" + ";" * 60000, "next") is None
    assert link_of("<" * 60000, "next") is None


@pytest.mark.parametrize(
    ("url", "names", "left"),
    [
        ("http://a/x?k=1&b=2", {"k"}, "http://a/x?b=2"),
        ("http://a/x?b=%2f&k=1&c", {"k"}, "http://a/x?b=%2f&c"),
        ("http://a/x?k=1", {"k"}, "http://a/x"),
        ("http://a/x?k=1", set(), "http://a/x?k=1"),
        ("http://a/x", {"k"}, "http://a/x"),
    ],
)
def test_parameters_are_cut_out(url: str, names: set[str], left: str) -> None:
    assert left == without(url, frozenset(names))
