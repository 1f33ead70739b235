"""The map is true: what ARCHITECTURE.md and CONTRIBUTING.md name is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from engine.config.keys import find

ROOT = Path(__file__).parent.parent
ENGINE = ROOT / "engine"
TEXTS = ("ARCHITECTURE.md", "CONTRIBUTING.md")

#: Names with a dot that are no part of ours.
FOREIGN = {"PoolManager.request", "msgspec.Raw", "setup.cfg"}


@cache
def modules() -> dict[str, Path]:
    """Every module and package by its name below `engine`."""
    found = {}
    for path in ENGINE.rglob("*.py"):
        parts = path.relative_to(ENGINE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def members(path: Path) -> dict[str, frozenset[str]]:
    """What a module has at its top, and what is spelt inside each of it."""
    found = {}
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.parse(text).body:
        spelt = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        inside = frozenset(re.findall(r"\w+", spelt))
        for name in named(node):
            found[name] = inside
    return found


def named(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return [node.name]
        case ast.Assign():
            return [each.id for each in node.targets if isinstance(each, ast.Name)]
        case ast.AnnAssign():
            return [node.target.id] if isinstance(node.target, ast.Name) else []
    return []


def there(parts: list[str]) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    for at in range(len(parts), 0, -1):
        path = modules().get(".".join(parts[:at]))
        if path is None:
            continue
        rest = parts[at:]
        if not rest:
            return True
        inside = members(path).get(rest[0])
        return inside is not None and (len(rest) == 1 or rest[1] in inside)
    return False


def known(name: str) -> bool:
    parts = name.removeprefix("engine.").split(".")
    if there(parts) or name in FOREIGN or find(name) is not None:
        return True
    if name[:1].isupper():
        # A class and what it has, wherever the class is.
        return any(
            parts[1] in members(path).get(parts[0], ()) for path in modules().values()
        )
    # A file of a room that was named before it, as `produce.transaction`.
    return any(there([*room.split("."), *parts]) for room in modules() if room)


@pytest.mark.parametrize("text", TEXTS)
def test_every_name_with_a_dot_is_there(text):
    prose = re.sub(r"```.*?```", "", (ROOT / text).read_text(), flags=re.DOTALL)
    names = set(re.findall(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)`", prose))

    lost = {name for name in names if not name.endswith(".py") and not known(name)}

    assert set() == lost


@pytest.mark.parametrize("text", TEXTS)
def test_every_path_is_there(text):
    prose = (ROOT / text).read_text()
    paths = set(re.findall(r"`((?:\w+/)*[\w.*/-]*(?:\.py|\.md|/))`", prose))
    starts = ("engine/", "tests/", "docs/", "perf/", "scripts/", "conf/")

    lost = {
        path
        for path in paths
        if not list(ROOT.glob(path.rstrip("/")))
        and (path.startswith(starts) or not list(ROOT.glob(f"*/**/{path}")))
    }

    assert set() == lost


def glossary() -> list[tuple[str, str]]:
    """The words of the glossary, each with what is meant."""
    prose = (ROOT / "ARCHITECTURE.md").read_text()
    table = prose.split("\n## Words\n")[1].split("\n## ")[0]
    return re.findall(r"^\| ([^|]+?) +\| ([^|]+?) +\|$", table, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize(
    ("word", "meant"), glossary(), ids=lambda text: text.split(" (")[0][:20]
)
def test_a_word_of_the_glossary_is_used_where_it_says(word, meant):
    """One of the places that a row names spells the word, as prose or as a name."""
    names = re.findall(r"`([\w./]+)`", meant)
    spelt = re.compile(
        r"[ _-]?".join(map(re.escape, re.split(r"[ -]", word))), re.IGNORECASE
    )
    places = []
    for name in names:
        parts = name.split(".")
        for at in range(len(parts), 0, -1):
            path = modules().get(".".join(parts[:at]))
            if path is not None:
                places.append(path)
                break
    if not places:
        places = [ROOT / name for name in names if (ROOT / name).is_file()]

    assert places, f"{word}: the glossary names no place of it"
    assert any(spelt.search(path.read_text()) for path in places), word


@pytest.mark.parametrize("text", TEXTS)
def test_it_says_something(text):
    assert 50 < len((ROOT / text).read_text().splitlines())
