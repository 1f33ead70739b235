from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.shared.feedback import INTERESTING, NOTHING, read

#: Tue, 15 Nov 2044 08:12:31 GMT
WALL_S = 2_362_810_351
DATE = "Tue, 15 Nov 2044 08:12:31 GMT"
LATER = "Tue, 15 Nov 2044 08:13:01 GMT"
BEFORE = "Tue, 15 Nov 2044 08:11:31 GMT"


def ask(status: int = 200, wall_s: float = WALL_S, **headers: str):
    found = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return read(status, found, round(wall_s * 1000))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        (LATER, 30.0),
        (BEFORE, 0.0),
        ("Tuesday, 15-Nov-44 08:13:01 GMT", 30.0),
        ("99999999999", 99_999_999_999.0),
        ("-1", None),
        ("1.5", 1.5),
        ("soon", None),
        ("", None),
        ("Tue, 15 Foo 2044 08:13:01 GMT", None),
        ("\u0663", None),
    ],
)
def test_retry_after_in_both_forms(status, value, seconds) -> None:
    assert seconds == ask(status, Retry_After=value).after


def test_retry_after_means_nothing_elsewhere() -> None:
    assert ask(200, Retry_After="30").after is None
    assert ask(301, Retry_After="30").after is None


def test_a_date_is_read_by_the_clock_of_who_wrote_it() -> None:
    # Our clock is an hour late, the server's is what the value was made with.
    wrong = WALL_S - 3600

    assert 30.0 == ask(429, wrong, Retry_After=LATER, Date=DATE).after
    assert 3630.0 == ask(429, wrong, Retry_After=LATER).after


def test_a_server_clock_that_is_years_off_is_not_believed() -> None:
    found = ask(429, Retry_After=LATER, Date="Thu, 01 Jan 1970 00:00:00 GMT")

    assert 30.0 == found.after


@pytest.mark.parametrize(
    ("field", "after", "remaining"),
    [
        ('"default";r=50;t=30', None, 50),
        ('"default";r=0;t=30', 30.0, 0),
        ('"default";t=30;r=0', 30.0, 0),
        ('"default" ; r=0;t=0', 0.0, 0),
        ("default;r=0;t=12", 12.0, 0),
        ('"a";r=10;t=5, "b";r=0;t=20', 20.0, 0),
        ('"a";r=0;t=50, "b";r=0;t=20', 50.0, 0),
        ('"a";r=0;t=3,"b";r=900;t=20', 3.0, 0),
        ('"a";r=7;t=3;pk=:sdfjLJUOUH==:', None, 7),
        ('"a\\"b;r=9";r=0;t=3', 3.0, 0),
        ('"a";r=0', None, 0),
        ('"a";r=-1;t=30', None, None),
        ('"a";r=0;t=1.5', None, 0),
        ('"a";t=30', None, None),
        ('"a";r=0;t=30,', None, None),
        ('"a', None, None),
        ("limit=100, remaining=0, reset=30", 30.0, 0),
        ("limit=100, remaining=5, reset=30", None, 5),
        ("", None, None),
        (";;;", None, None),
    ],
)
def test_the_current_draft(field, after, remaining) -> None:
    found = ask(RateLimit=field)

    assert (after, remaining) == (found.after, found.remaining)


def test_a_policy_tells_the_window_and_the_quota() -> None:
    found = ask(RateLimit='"day";r=0', RateLimit_Policy='"day";q=100;w=60')

    assert (60.0, 100.0) == (found.after, found.limit)


def test_a_service_without_a_policy_is_ignored_where_policies_are_told() -> None:
    found = ask(RateLimit='"other";r=0;t=9', RateLimit_Policy='"day";q=100;w=60')

    assert NOTHING == found


def test_a_quota_of_something_else_than_requests_counts_when_it_is_gone() -> None:
    policy = '"bytes";q=1000;w=60;qu="content-bytes", "calls";q=9;w=60;qu="requests"'
    left = ask(RateLimit='"bytes";r=3;t=9, "calls";r=7;t=9', RateLimit_Policy=policy)
    gone = ask(RateLimit='"bytes";r=0;t=9, "calls";r=7;t=9', RateLimit_Policy=policy)

    assert (7, 9, None) == (left.remaining, left.limit, left.after)
    assert 9 == gone.after


def test_retry_after_wins() -> None:
    found = ask(429, Retry_After="3", RateLimit='"a";r=0;t=30')

    assert (3.0, "retry_after", 0) == (found.after, found.cause, found.remaining)


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "17"}, 17.0),
        (
            {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(WALL_S + 25)},
            25.0,
        ),
        (
            {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": f"{WALL_S + 25}000"},
            25.0,
        ),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "86401"}, None),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "999999999"}, None),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "-4"}, None),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": LATER}, 30.0),
        (
            {
                "X_RateLimit_Remaining": "0",
                "X_RateLimit_Reset": "2044-11-15T08:13:01Z",
            },
            30.0,
        ),
        ({"X_RateLimit_Remaining": "1", "X_RateLimit_Reset": "17"}, None),
        ({"X_RateLimit_Remaining": "0"}, None),
        ({"X_RateLimit_Remaining": "no", "X_RateLimit_Reset": "17"}, None),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Reset_After": "0.65"}, 0.65),
        ({"X_Rate_Limit_Remaining": "0", "X_Rate_Limit_Reset": "9"}, 9.0),
        (
            {
                "x_ratelimit_remaining_requests": "0",
                "x_ratelimit_reset_requests": "6m0s",
            },
            360.0,
        ),
        (
            {
                "x_ratelimit_remaining_requests": "0",
                "x_ratelimit_reset_requests": "20ms",
            },
            0.02,
        ),
        ({"RateLimit_Remaining": "0", "RateLimit_Reset": "8"}, 8.0),
    ],
)
def test_the_usual_dialects(headers, after) -> None:
    found = ask(**headers)

    assert after is found.after if after is None else after == found.after


def test_milliseconds_where_they_are_said() -> None:
    assert 0.25 == ask(429, x_ms_retry_after_ms="250").after


def test_what_says_nothing_is_nothing() -> None:
    assert NOTHING is ask(200, Content_Type="text/plain", Date=DATE)


@given(
    st.sampled_from([200, 429, 503]),
    st.lists(st.tuples(st.sampled_from(sorted(INTERESTING)), st.text(max_size=30))),
)
def test_no_value_is_an_error(status, headers) -> None:
    found = read(status, headers, WALL_S * 1000)

    assert found.after is None or found.after >= 0
