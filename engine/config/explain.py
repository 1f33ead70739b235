"""
Explain: what a key means, out of the one table.

Owns the text of `explain` for our keys, for foreign ones and for typing
errors.  It reads no file.

Path: ``keys`` and ``foreign`` -> here -> ``cli.check``
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from engine.config import foreign, keys
from engine.config.built import availability
from engine.config.foreign.rows import ROWS, Row
from engine.config.keys.meanings import meanings
from engine.config.keys.pages import page_of
from engine.config.kinds import nearest
from engine.config.sections.key import Computed, Key

#: Characters of a line at most.
COLUMNS = 100

#: Keys that are listed for a word.
MOST = 25

SCOPES = {
    "A": "an api; without prefix the default of all, apiN. before it for one",
    "C": "one value for a connector",
    "T": "one value for a connector, counted in each task",
    "P": "one value for the whole process",
}


def explain(name: str) -> str:
    """
    What a key means, its type, default, range and scope, with an example.

    A foreign key says what of ours it is; an unknown one gives the nearest
    known name.
    """
    number, plain = keys.split_api(name.strip())
    key = keys.find(plain) or keys.TABLE.get(plain)
    if key is not None:
        return _ours(plain, key, number)
    row = foreign.row(plain)
    if row is not None:
        return _foreign(plain, row)
    if found := topic(plain):
        return _topic(plain, found)
    guess = nearest(plain, [*keys.TABLE, *foreign.names()])
    hint = f"; did you mean {guess}?" if guess else ""
    return f"{plain}: unknown key{hint}"


def topic(word: str) -> list[Key]:
    """
    The keys that a word is about, the nearest first.

    It is the beginning of their names, a part between two dots, or a word of the
    heading they stand under: `auth` is about auth.type, http.auth.class and all
    of "Authentication".
    """
    wanted = word.lower().strip(".")
    if len(wanted) < 3:
        return []
    ranks: dict[str, int] = {}
    for name, key in keys.TABLE.items():
        if key.folds or name.startswith(("producer.override.", "admin.override.")):
            continue
        parts = name.lower().replace("_", ".").split(".")
        if name.lower().startswith(f"{wanted}."):
            ranks[name] = 0
        elif wanted in parts:
            ranks[name] = 1
        elif any(each.startswith(wanted) for each in key.section.lower().split()):
            ranks[name] = 2
    order = sorted(ranks, key=lambda name: (ranks[name], not name.endswith(".type")))
    return [keys.TABLE[name] for name in order]


def _topic(word: str, found: Sequence[Key]) -> str:
    width = min(max(len(key.name) for key in found[:MOST]), 44)
    lines = [f"{word} is no key by itself; these are about it:", ""]
    for key in found[:MOST]:
        lines += _wrapped(f"  {key.name:<{width}}  ", key.meaning)
    if len(found) > MOST:
        lines.append(f"  ... and {len(found) - MOST} more in conf/REFERENCE.md")
    return "\n".join(lines)


def _wrapped(head: str, text: str) -> list[str]:
    """A head and a text beside it, in lines of at most `COLUMNS`."""
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=head,
        subsequent_indent=" " * min(len(head), 48),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]


def known(name: str) -> bool:
    """Whether `explain` has something to say about a key."""
    plain = keys.split_api(name.strip())[1]
    return (
        keys.find(plain) is not None
        or plain in keys.TABLE
        or foreign.row(plain) is not None
        or bool(topic(plain))
    )


def default_text(key: Key) -> str:
    """The default in words; `-` for none."""
    if isinstance(key.default, Computed):
        return key.default.words
    if key.default is None:
        return "-"
    return key.default or "(empty)"


def _ours(name: str, key: Key, number: int | None) -> str:
    example = name if number is None else f"api{number}.{name}"
    lines = [
        name,
        *_wrapped("  ", key.meaning),
        "",
        *_wrapped("  type      ", key.kind.allowed),
        *_wrapped("  default   ", default_text(key)),
        f"  scope     {SCOPES[key.scope]}",
        # An example is copied as it stands, whatever its length.
        f"  example   {example}={key.example}",
        f"  manual    {page_of(key)}",
    ]
    if key.required:
        lines += _wrapped("  required  by ", key.required)
    if key.folds:
        lines += _wrapped("  wins over ", key.folds)
    others = [row.theirs for row in ROWS if row.ours == name]
    if others:
        lines += _wrapped("  also      ", ", ".join(others))
    if note := availability(name):
        lines += _wrapped("  note      ", note)
    if words := meanings(key):
        lines.append("")
        width = max(map(len, words))
        for word, meaning in words.items():
            lines += _wrapped(f"  {word:<{width}}  ", meaning)
    return "\n".join(lines)


def _foreign(name: str, row: Row) -> str:
    note = f": {row.note}" if row.note else ""
    if row.action == "void":
        return f"{name}\n  accepted without effect{note}"
    if row.action == "refused" or not row.ours:
        return f"{name}\n  refused{note}" + (
            f"\n  ours: {row.ours}" if row.ours else ""
        )
    how = "taken as" if row.action == "alias" else "converted to"
    text = f"{name}\n  {how} {row.ours}{note}"
    ours = keys.find(row.ours)
    return f"{text}\n\n{_ours(row.ours, ours, None)}" if ours is not None else text
