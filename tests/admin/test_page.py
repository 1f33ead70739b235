"""The status page without a browser: who gets it, what it says, what its forms do."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest

from engine.admin.answers import AdminResponse
from engine.admin.commands import SupervisorClient
from engine.admin.guard import ConnectionEnds
from engine.admin.page.buttons import Buttons
from engine.admin.page.content import content
from engine.admin.page.pages import ACTIONS, wants_page
from engine.admin.page.plots import HEIGHT, WIDTH, plot
from engine.admin.view import ShardState, TaskState
from engine.observe.advice import ADVICE
from engine.observe.failures import KINDS, LastFailure
from engine.shared.link import AskOutcome, Message
from tests.admin.conftest import LOCAL, Stage
from tests.fakes.view import card

OUTSIDE = ConnectionEnds("192.0.2.1", "192.0.2.9")
TOKEN = "sixteen-letters-and-more"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
FORM = "application/x-www-form-urlencoded"


class Tab:
    """A browser as far as it matters here: cookies and forms."""

    def __init__(self, stage: Stage, caller: ConnectionEnds = LOCAL):
        self.stage = stage
        self.caller = caller
        self.jar: dict[str, str] = {}
        self.host = "localhost:8080" if caller is LOCAL else "192.0.2.1:8080"

    def get(
        self, path: str = "/", query: dict[str, list[str]] | None = None
    ) -> AdminResponse:
        return self._kept(
            self.stage.ask(
                path,
                query=query,
                caller=self.caller,
                accept=BROWSER,
                host=self.host,
                cookie=self._cookie(),
            )
        )

    def post(self, path: str, **fields: str) -> AdminResponse:
        return self._kept(
            self.stage.ask(
                path,
                method="POST",
                body=urlencode(fields).encode(),
                caller=self.caller,
                accept=BROWSER,
                host=self.host,
                origin=f"http://{self.host}",
                cookie=self._cookie(),
                content_type=FORM,
            )
        )

    def proof(self, path: str = "/") -> str:
        found = re.search(r'name="proof" value="([^"]+)"', self.get(path).body.decode())
        return found[1] if found else ""

    def _cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.jar.items())

    def _kept(self, answer: AdminResponse) -> AdminResponse:
        for name, value in answer.headers:
            if name == "Set-Cookie":
                assert "HttpOnly" in value and "SameSite=Strict" in value
                key, _, rest = value.partition("=")
                self.jar[key] = rest.partition(";")[0]
        return answer


# -- who gets it


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML", True),
        ("text/html;q=0.5", True),
        ("application/xhtml+xml", True),
        ("application/json;q=0.4, text/html;q=0.5", True),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        ("text/htmlx", False),
        (",;,;q=", False),
    ],
)
def test_who_names_html_gets_the_page_and_everybody_else_json(
    stage: Stage, accept: str, page: bool
) -> None:
    assert page == wants_page(accept)

    answer = stage.ask("/", accept=accept)

    # Who names neither is told that there is nothing else.
    json = accept in ("", "*/*", ",;,;q=") or "application/json" in accept
    assert (200 if page or json else 406) == answer.status
    assert page == answer.content_type.startswith("text/html")


def test_head_and_only_reading_methods(stage: Stage) -> None:
    assert 200 == stage.ask("/", method="HEAD", accept=BROWSER).status
    assert 405 == stage.ask("/", method="POST", accept=BROWSER).status


def test_a_page_may_run_and_load_nothing_but_its_own(stage: Stage) -> None:
    first, second = (stage.ask("/", accept=BROWSER) for _ in range(2))

    policies = [dict(one.headers)["Content-Security-Policy"] for one in (first, second)]
    assert policies[0] != policies[1], "each page has a nonce of its own"
    for words in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"):
        assert words in policies[0]
    assert "unsafe" not in policies[0]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policies[0])
    assert nonce is not None
    body = first.body.decode()
    assert body.count("<script") == body.count(f'<script nonce="{nonce[1]}"') == 1
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", body), "nothing from afar"
    assert not re.search(r"""\sstyle=|\son[a-z]+=""", body)
    assert len(first.body) < 40_000


# -- what it says


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></script><b>x",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x00",
    "&lt;already&gt;",
    "`<i>code</i>`",
    "مرحبا \u202eabc",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_is_text(staged: Callable[..., Stage], text: str) -> None:
    stage = staged(card(text))
    stage.view.task_states = [TaskState(text, 0, "FAILED", trace=text)]
    now = stage.clock.wall_ms()
    stage.shard(
        connector=text,
        label=text,
        failure=LastFailure("record", text, 1, 1, now, now),
        position=text,
    )

    body = stage.ask("/", accept=BROWSER).body.decode()

    for broken in ("<script>alert", "<img", "<b>x", "<i>", " onmouseover='"):
        assert broken not in body, broken
    for hidden in "\x1b\x00\u202e":
        assert hidden not in body
    assert ("{{ 7 * 7 }}" in text) == ("{{ 7 * 7 }}" in body)
    assert 1 == body.count("</style>") == body.count("</title>")


def test_the_failing_come_first(staged: Callable[..., Stage]) -> None:
    names = ["a-well", "b-paused", "c-failed", "d-waits", "e-failed"]
    stage = staged(*map(card, names))
    now = stage.clock.wall_ms()
    stage.view.targets["b-paused"] = "PAUSED"
    stage.view.task_states = [
        TaskState("a-well", 0, "RUNNING"),
        TaskState("b-paused", 0, "PAUSED"),
        TaskState("c-failed", 0, "FAILED", trace="no"),
        TaskState("d-waits", 0, "RUNNING", phase="waiting_broker", waiting="away"),
        TaskState("e-failed", 0, "FAILED", trace="no"),
    ]
    stage.view.shard_states = [
        ShardState(place, name, "api1", "api1", 0, {}, success_ms=now)
        for place, name in enumerate(names)
    ]

    shown = content(
        stage.view, stage.watch.look(), began=stage.watch.began, trusted=True
    )

    assert ["c-failed", "e-failed", "d-waits", "b-paused", "a-well"] == [
        panel.name for panel in shown.panels
    ]
    assert ("failed", "2 of 5 connectors failed") == (shown.status, shown.sentence)
    # A shard is in no other state than its connector.
    states = {panel.name: [row.state for row in panel.rows] for panel in shown.panels}
    assert {"b-paused": ["PAUSED"], "a-well": ["RUNNING"]}.items() <= states.items()


def test_without_a_connector_it_waits(stage: Stage) -> None:
    stage.view.cards = []
    stage.view.task_states = []
    stage.view.shard_states = []

    body = stage.ask("/", accept=BROWSER).body.decode()

    assert "No connector yet" in body


def test_a_failure_says_what_to_do_and_when_it_is_tried_again(stage: Stage) -> None:
    now = stage.clock.wall_ms()
    stage.shard(
        success_ms=now,
        next_ms=now + 30_000,
        failure=LastFailure(
            "denied", "answers 401", 17, 1, now - 60_000, now, now + 30_000
        ),
    )

    body = stage.ask("/", accept=BROWSER).body.decode()

    assert "denied (17 times in 1 min 0 s): answers 401" in body
    assert "in 30 s</time>" in body
    assert "<code>kafka-http-source explain auth</code>" in body


def test_a_shard_that_is_failed_waits_for_a_person(stage: Stage) -> None:
    now = stage.clock.wall_ms()
    stage.shard(failed="no", failure=LastFailure("denied", "no", 1, 1, now, now))

    body = stage.ask("/", accept=BROWSER).body.decode()

    assert "Then restart or resume the connector" in body
    assert "Next try" not in body


def test_every_kind_of_failure_has_its_advice() -> None:
    assert set(KINDS) == set(ADVICE)
    assert all(text.endswith(".") for text in ADVICE.values())


def test_records_are_drawn_over_time(stage: Stage) -> None:
    for _ in range(20):
        stage.deliver(500)
        stage.clock.pass_by(5)
        stage.watch.look()

    shown = content(
        stage.view, stage.watch.look(), began=stage.watch.began, trusted=True
    )

    records, latency = shown.panels[0].plots
    assert ("100", "100") == (records.top, records.last)
    assert 19 <= records.path.count("L") <= 23
    assert ("", "latency, p99: nothing measured yet") == (latency.path, latency.words)


@pytest.mark.parametrize(
    ("values", "pieces"),
    [
        ([], 0),
        ([1.0], 0),
        ([None, None], 0),
        ([0.0, 0.0], 1),
        ([1.0, None, 2.0], 2),
        ([None, 5.0, 5.0], 1),
        ([1e300, 1e-300], 1),
    ],
)
def test_a_plot_stays_in_its_box(values: list[float | None], pieces: int) -> None:
    moments = [-10.0 * place for place in range(len(values), 0, -1)]

    drawn = plot("x", moments, values, str, "line")

    assert pieces == drawn.path.count("M")
    for x, y in re.findall(r"[ML]([-0-9.e]+) ([-0-9.e]+)", drawn.path):
        assert 0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT


def test_positions_are_for_those_who_may_change_things(stage: Stage) -> None:
    stage.shard(position='{"cursor":"theirs"}')

    assert b"theirs" in Tab(stage).get().body
    stage.token = TOKEN
    assert b"theirs" not in Tab(stage, OUTSIDE).get().body


# -- what its forms do


@pytest.mark.parametrize("action", ACTIONS)
def test_a_button_does_it_once_and_says_so(stage: Stage, action: str) -> None:
    tab = Tab(stage)

    answer = tab.post(f"/ui/connectors/orders/{action}", proof=tab.proof())

    assert 303 == answer.status
    assert [("orders", action)] == stage.acted
    where = dict(answer.headers)["Location"]
    assert f"/?done={action}&connector=orders" == where
    query = {"done": [action], "connector": ["orders"]}
    assert f"orders {ACTIONS[action]}.".encode() in tab.get("/", query).body


def test_an_odd_name_finds_its_connector(staged: Callable[..., Stage]) -> None:
    name = "a/b c?d%e"
    stage = staged(card(name))
    stage.view.task_states = [TaskState(name, 0, "RUNNING")]
    tab = Tab(stage)
    page = tab.get().body.decode()

    assert f'action="/ui/connectors/{quote(name, safe="")}/pause"' in page


def test_what_cannot_be_done_is_said(stage: Stage) -> None:
    why = "orders is draining; ask again once it has."
    stage.commands.told = AskOutcome(0, refusal="busy", message=why)
    tab = Tab(stage)

    answer = tab.post("/ui/connectors/orders/pause", proof=tab.proof())

    assert 409 == answer.status
    assert why.encode() in answer.body
    assert b"http-equiv" not in answer.body


@pytest.mark.parametrize("said", ["", "x", "0" * 64, "é", "a" * 5000])
def test_a_form_of_another_page_changes_nothing(stage: Stage, said: str) -> None:
    tab = Tab(stage)
    tab.get()

    assert 403 == tab.post("/ui/connectors/orders/stop", proof=said).status
    assert [] == stage.acted


def test_a_proof_is_for_one_browser_and_one_life(stage: Stage) -> None:
    mine, other = Tab(stage), Tab(stage)
    proof = mine.proof()
    other.get()

    assert 403 == other.post("/ui/connectors/orders/stop", proof=proof).status
    stage._sessions = None
    assert 403 == mine.post("/ui/connectors/orders/stop", proof=proof).status
    assert [] == stage.acted


def test_another_origin_is_refused_with_proof_and_cookie(stage: Stage) -> None:
    tab = Tab(stage)
    proof = tab.proof()

    answer = stage.ask(
        "/ui/connectors/orders/stop",
        method="POST",
        body=urlencode({"proof": proof}).encode(),
        origin="http://evil.example",
        cookie=tab._cookie(),
        content_type=FORM,
    )

    assert 403 == answer.status
    assert [] == stage.acted


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ui/connectors/nobody/stop", 404),
        ("/ui/connectors/orders/explode", 404),
        ("/ui/connectors/orders", 404),
        ("/ui/", 404),
        ("/ui/connectors/orders/stop/now", 404),
    ],
)
def test_what_is_not_there_is_404(stage: Stage, path: str, status: int) -> None:
    tab = Tab(stage)

    assert status == tab.post(path, proof=tab.proof()).status
    assert [] == stage.acted


def test_reading_a_button_does_nothing(stage: Stage) -> None:
    assert 303 == Tab(stage).get("/ui/connectors/orders/stop").status
    assert [] == stage.acted


def test_off_loopback_without_a_token_there_are_no_buttons(stage: Stage) -> None:
    tab = Tab(stage, OUTSIDE)

    body = tab.get().body.decode()

    assert "<button" not in body and "Log in" not in body
    assert 403 == tab.post("/ui/connectors/orders/stop", proof="x").status
    assert [] == stage.acted


# -- the token


@pytest.mark.parametrize("caller", [LOCAL, OUTSIDE])
def test_a_token_opens_and_a_logout_shuts(stage: Stage, caller: ConnectionEnds) -> None:
    stage.token = TOKEN
    tab = Tab(stage, caller)
    assert "<button" not in tab.get().body.decode()

    answer = tab.post("/ui/login", token=f" {TOKEN} ", proof=tab.proof("/ui/login"))

    assert (303, "/") == (answer.status, dict(answer.headers)["Location"])
    proof = tab.proof()
    assert 303 == tab.post("/ui/connectors/orders/stop", proof=proof).status
    assert [("orders", "stop")] == stage.acted
    assert 303 == tab.post("/ui/logout", proof=proof).status
    assert 403 == tab.post("/ui/connectors/orders/stop", proof=proof).status
    assert 1 == len(stage.acted)


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", "é" * 20])
def test_a_wrong_token_opens_nothing(stage: Stage, token: str) -> None:
    stage.token = TOKEN
    tab = Tab(stage, OUTSIDE)

    answer = tab.post("/ui/login", token=token, proof=tab.proof("/ui/login"))

    assert 403 == answer.status
    assert "<button>Log out" not in tab.get().body.decode()


def test_a_login_of_another_page_is_refused(stage: Stage) -> None:
    stage.token = TOKEN
    tab = Tab(stage, OUTSIDE)
    tab.get("/ui/login")

    assert 403 == tab.post("/ui/login", token=TOKEN, proof="x").status


def test_a_session_ends(stage: Stage) -> None:
    stage.token = TOKEN
    tab = Tab(stage, OUTSIDE)
    tab.post("/ui/login", token=TOKEN, proof=tab.proof("/ui/login"))
    assert "Log out" in tab.get().body.decode()

    stage.clock.pass_by(12 * 3600 + 1)

    assert "Log out" not in tab.get().body.decode()


@pytest.mark.parametrize(
    "session",
    [
        "",
        ".",
        "99999999999.",
        "99999999999." + "0" * 64,
        "x" * 10_000,
        "99999999999.é",
        '"\\',
    ],
)
def test_a_made_up_session_is_none(stage: Stage, session: str) -> None:
    stage.token = TOKEN
    tab = Tab(stage, OUTSIDE)
    tab.jar["khs_session_8080"] = session

    assert "Log out" not in tab.get().body.decode()


def test_two_engines_of_one_machine_keep_their_sessions_apart(stage: Stage) -> None:
    stage.token = TOKEN
    tab = Tab(stage)
    tab.host = "localhost:9090"
    tab.post("/ui/login", token=TOKEN, proof=tab.proof("/ui/login"))

    assert {"khs_browser_9090", "khs_session_9090"} == set(tab.jar)


def test_a_supervisor_that_is_silent_is_said() -> None:
    def unheard(message: Message) -> bool:
        return False

    said = Buttons(SupervisorClient(unheard))("orders", "pause", LOCAL)

    assert said == (
        "The supervisor does not answer. What was asked for may still happen."
    )
