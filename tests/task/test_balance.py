"""Several endpoints, from the file to what three real servers see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.errors import Unreachable
from tests.fakes.misbehaving import Misbehaving, Say
from tests.fakes.source import Source
from tests.task.test_http_keys import numbered

PAGES = 30
KEYS = {
    "pagination.type": "page",
    "pagination.limit.value": 1,
    "http.load.balancing.health.check.interval.ms": 200,
    "http.load.balancing.health.check.path": "/alive?page=1",
}


@pytest.fixture
def three() -> Iterator[list[Misbehaving]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Misbehaving(numbered(PAGES - 1))) for _ in range(3)]


def over(folder: Path, servers: list[Misbehaving], **keys: object) -> Source:
    urls = ", ".join(f'"{server.url}"' for server in servers)
    return Source(
        folder, "/things", {**KEYS, "http.source.endpoints": f"[{urls}]", **keys}
    )


def asked(server: Misbehaving, path: str = "/things") -> int:
    return sum(each.target.startswith(path) for each in server.asked)


def test_pages_are_shared_out_and_no_page_names_its_host(
    three: list[Misbehaving], tmp_path: Path
) -> None:
    with over(tmp_path, three) as source:
        pages = source.poll()

    assert [PAGES // 3] * 3 == [asked(server) for server in three]
    assert 1 == len({page.response.url.partition("/things")[0] for page in pages})
    assert not any(str(three[1].port) in str(page.offset) for page in pages)


def test_one_of_three_dies_gets_only_probes_and_comes_back(
    three: list[Misbehaving], tmp_path: Path
) -> None:
    dead = three[1]
    with over(tmp_path, three) as source:
        alive, dead.acts = dead.acts, [Say(gone=True)]
        assert PAGES - 1 == len(source.records())
        # Three failures in a row took it out; nothing of a page was lost.
        assert 3 == asked(dead)
        source.turn(lambda: asked(dead, "/alive") >= 2)
        source.poll()
        assert 3 == asked(dead)

        dead.acts = alive
        probes = asked(dead, "/alive")
        source.turn(lambda: asked(dead, "/alive") > probes)
        source.turn(lambda: source.poll() is not None and asked(dead) > 3)
        assert asked(dead) >= 3 + PAGES // 3 - 1


def test_a_chain_keeps_its_host_and_the_next_poll_goes_elsewhere(
    three: list[Misbehaving], tmp_path: Path
) -> None:
    chain = [Say(body=b'{"items":[%d],"next":"%d"}' % (n, n)) for n in range(3)]
    end = Say(body=b'{"items":[9],"next":null}')
    for server in three:
        server.acts = [*chain, end, *chain, end]
    keys = {"pagination.type": "cursor", "pagination.cursor.field": "next"}
    with over(tmp_path, three, **keys, **{"max.retries": 0}) as source:
        source.poll()
        assert [0, 0, 4] == sorted(asked(server) for server in three)
        source.poll()
        assert [0, 4, 4] == sorted(asked(server) for server in three)
        last = next(server for server in three if not server.asked)
        last.acts = [chain[0], Say(gone=True)]
        with pytest.raises(Unreachable):
            source.poll()

    # The page, and once more on the connection that had ended: its host's alone.
    assert [3, 4, 4] == sorted(asked(server) for server in three)
    assert 3 == asked(last)


def test_failover_stays_with_the_first(
    three: list[Misbehaving], tmp_path: Path
) -> None:
    with over(
        tmp_path, three, **{"http.load.balancing.strategy": "FAILOVER"}
    ) as source:
        source.poll()

    assert [PAGES, 0, 0] == [asked(server) for server in three]
