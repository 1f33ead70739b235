"""The Link header, RFC 8288."""

from __future__ import annotations

import pytest

from engine.errors import BadPage
from engine.source.paging.links import at_own, link_of, without


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
        ('</1>; rel="nextpage"', None),
        ('< /1 >; rel="next"', "/1"),
    ],
)
def test_the_first_link_of_the_relation_counts(
    header: str | None, target: str | None
) -> None:
    assert target == link_of(header, "next")


@pytest.mark.parametrize(
    "header",
    [
        # Quotes of other kinds, or left open.
        "<https://a/2>; rel='next'",
        '<https://a/2>; rel="next',
        '<https://a/2>; rel="next, <https://a/9>; rel="last"',
        '<https://a/1>; rel="prev", <https://a/2>; rel="next',
        '<https://a/2>; rel="next"; title="x',
        "<https://a/2>; rel='next', <https://a/9>; rel='last'",
        "<https://a/2>; rel=\u201cnext\u201d",
        "<https://a/2>; rel=\xe2\x80\x9cnext\xe2\x80\x9d",
        # Stray words.
        '<https://a/2> foo; rel="next"',
        'garbage <https://a/2>; rel="next"',
        '<https://a/2>; rel="next" , , garbage',
        "<https://a/2>; rel=next, last",
        "<https://a/2> rel=next",
        '<https://a/1>; rel="prev" <https://a/2>; rel="next"',
        # Brackets left out.
        'https://a/2; rel="next"',
        'https://a/1; rel="prev", https://a/2; rel="next"',
        '<https://a/2; rel="next"',
        # Commas and blanks where they are to be quoted.
        '<https://a/2>; title=Hello, World; rel="next"',
        '<https://a/2>; title=Hello World; rel="next"',
    ],
)
def test_a_header_that_can_be_read_in_one_way_is_followed(header: str) -> None:
    assert "https://a/2" == link_of(header, "next")


def test_urls_with_marks_of_the_grammar_are_followed() -> None:
    assert "https://a/x?q=a>b&p=2" == link_of(
        '<https://a/x?q=a>b&p=2>; rel="next"', "next"
    )
    assert "https://a/x?ids=1,2&p=2" == link_of(
        "https://a/x?ids=1,2&p=2; rel='next'", "next"
    )
    assert "?page=2" == link_of("?page=2; rel=next", "next")


@pytest.mark.parametrize(
    "header",
    [
        "nonsense",
        '{"next":"https://a/2"}',
        "https://a/2",
        '<https://a/2>; "next"',
        '<https://a/q=1>;b=2>; rel="next"',
        "</a>; rel='next', </b>; rel='next'",
        "<a>;" + ' ;x="\\"' * 5000,
        "<" * 60000,
    ],
)
def test_a_header_that_cannot_be_read_is_never_the_end(header: str) -> None:
    with pytest.raises(BadPage) as failure:
        link_of(header, "next")

    assert header[:100] in str(failure.value)
    assert len(str(failure.value)) < 500


def test_a_header_without_the_relation_is_the_end() -> None:
    for header in ("<a>; rel='prev'", "<a>; rel='prev', <b>; rel='last'", " , "):
        assert link_of(header, "next") is None


def test_a_long_hostile_header_costs_no_time() -> None:
    assert link_of("<a>" + ";" * 60000, "next") is None


@pytest.mark.parametrize(
    ("asked", "answered", "reference", "url"),
    [
        ("https://a/x?p=1", "https://a/x", "http://a/x?p=2", "https://a/x?p=2"),
        ("https://a/x", "https://a/x", "http://inner:8080/x?p=2", "https://a/x?p=2"),
        ("https://a:444/x", "https://b/y/z", "w?p=2", "https://a:444/y/w?p=2"),
        ("https://a/x", "https://a/x", "//b", "https://a/"),
    ],
)
def test_a_link_is_taken_to_our_own_origin(
    asked: str, answered: str, reference: str, url: str
) -> None:
    assert url == at_own(asked, answered, reference)


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
