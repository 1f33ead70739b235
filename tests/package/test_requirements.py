"""The locked versions: whole, hashed, within what setup.cfg says."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
LOCKS = ROOT / "conf" / "requirements"

#: What each is made of.
EXTRAS = {
    "service": (
        *("service", "compression", "encodings", "http2", "avro", "protobuf"),
        *("schema", "terminal"),
    ),
    "ci": ("all", "test"),
}

#: Below 1.0 or stable for years, and tools of tests: no major version to fear.
UNBOUNDED = {"test"}


def declared() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """(what every installation needs, what each extra adds)."""
    read = configparser.ConfigParser()
    read.read(ROOT / "setup.cfg")

    def lines(text: str) -> list[Requirement]:
        kept = [line.strip() for line in text.splitlines()]
        return [Requirement(line) for line in kept if line and line[0] != "#"]

    extras = read["options.extras_require"]
    return (
        lines(read["options"]["install_requires"]),
        {name: lines(text) for name, text in extras.items()},
    )


def wanted(extras: tuple[str, ...]) -> list[Requirement]:
    base, table = declared()
    found, waiting = list(base), list(extras)
    while waiting:
        for each in table[waiting.pop()]:
            if each.name == "kafka-http-source":
                waiting.extend(each.extras)
            else:
                found.append(each)
    return found


def locked(name: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Name -> its pins (one for each marker), each with the number of its hashes."""
    found: dict[str, list[tuple[Requirement, int]]] = {}
    text = (LOCKS / f"{name}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin, *hashes = line.split("--hash=")
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", one) for one in hashes)
        each = Requirement(pin)
        found.setdefault(canonical(each.name), []).append((each, len(hashes)))
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_a_lock_is_what_setup_cfg_asks_for(name: str) -> None:
    pins = locked(name)

    for each in wanted(EXTRAS[name]):
        for pin, _ in pins[canonical(each.name)]:
            [exact] = pin.specifier
            assert "==" == exact.operator
            assert each.specifier.contains(exact.version, prereleases=True), each


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_a_lock_is_hashed_and_names_no_host(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()

    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", text)
    for pins in locked(name).values():
        assert all(hashes for _, hashes in pins)


def test_the_trial_broker_is_for_trying_out_only() -> None:
    assert "noida-db" not in locked("service")
    assert "noida-db" in locked("ci")
    assert "noida-db" not in {canonical(each.name) for each in wanted(("all",))}


def test_what_a_major_version_may_break_has_an_upper_bound() -> None:
    base, extras = declared()
    asked = [
        *base,
        *(r for name, of in extras.items() if name not in UNBOUNDED for r in of),
    ]

    open_ended = [
        each.name
        for each in asked
        if each.name != "kafka-http-source"
        and not any(one.operator in ("<", "==", "~=") for one in each.specifier)
    ]
    assert [] == open_ended
