"""
Reference: the whole table as one document.

Owns the text of ``conf/REFERENCE.md``.  Run as a module it prints it:
``python -m engine.config.reference > conf/REFERENCE.md``.

Path: ``keys`` and ``foreign`` -> here
"""

from __future__ import annotations

import itertools
import sys
import textwrap

from engine.config import keys
from engine.config.built import availability
from engine.config.explain import COLUMNS, default_text
from engine.config.foreign.rows import ROWS, Row
from engine.config.keys.meanings import meanings
from engine.config.sections.key import Key

_HEAD = """# Configuration reference

Made by `python -m engine.config.reference`; do not edit.

`kafka-http-source explain KEY` prints one entry, `kafka-http-source check
FILE...` says what is wrong with a file, all of it at once.

## Syntax

* `key=value` or `key:value`, one a line, UTF-8. Lines that begin with `#` or
  `!` are comments. Blanks around separator and value are dropped.
* Escapes: `\\t \\n \\r \\f \\\\ \\= \\: \\# \\!`, backslash-blank, `\\uXXXX`; a
  backslash at the end of a line joins the next one. Any other backslash is an
  error.
* A blank and `#` end the value, but for text, templates, header lists and
  secrets: there they are an error that asks for `\\#` or a line of its own.
* JSON values may run over lines until their brackets balance.
* A second `name=` starts a second connector; lines before the first are common
  to all. `key=` (empty) removes what a lower layer says.
* Files are laid over one another left to right: one with `name` is a connector,
  one without is a layer for those to its right and over those to its left.
  `--set key=value` lies on top.
* A `.json` file holds Kafka Connect's `{"name": ..., "config": {...}}`, the
  bare map, or a list of either.
* `${env:NAME}`, `${file:PATH}`, `${file:PATH:KEY}`, `${dir:DIR:KEY}` and
  `${cred:NAME}` stand for values from elsewhere, which are secret from then on.
* Header lists are `Name:value;Name:value`; commas belong to the value.
* Unknown keys are errors.

Scope: **C** one value a connector; **A** an api, `apiN.` before the key for
one of several; **T** as C, but counted in each task; **P** one value for the
whole process.
"""

_LEGEND = """Keys of other connectors and of Kafka Connect's workers. *alias*: taken as
ours; *converted*: its value changes on the way; *void*: accepted without
effect; *refused*: an error. Each is said when it is met.
"""


def reference() -> str:
    """The configuration reference as Markdown."""
    parts = [_HEAD]
    shown = [key for key in keys.TABLE.values() if not key.folds]
    # A section is written once, wherever its keys stand in the table.
    titles = dict.fromkeys(key.section for key in shown)
    for title in titles:
        parts.append(f"## {title}\n")
        parts += [_entry(key) for key in shown if key.section == title]
        if title == "Producer":
            parts.append(
                "`producer.override.<key>` takes any of these and wins over it.\n"
            )
    parts.append(_foreign())
    return "\n".join(parts)


def _entry(key: Key) -> str:
    meaning = key.meaning
    if key.required:
        meaning += f" Required by {key.required}."
    if note := availability(key.name):
        meaning += f" ({note[0].upper()}{note[1:]}.)"
    facts = f"Scope {key.scope}; default: {default_text(key)}; {key.kind.allowed}."
    lines = [f"### `{key.name}`", "", *_filled(meaning), "", *_filled(facts)]
    if key.example:
        lines[-1:] = _filled(f"{lines[-1]} Example: `{key.example}`")
    if words := meanings(key):
        lines.append("")
        for word, what in words.items():
            lines += _filled(f"* `{word}`: {what}", "  ")
    return "\n".join([*lines, ""])


def _filled(text: str, indent: str = "") -> list[str]:
    """Lines of at most `COLUMNS`, but for what cannot be broken."""
    # A line that begins with a sign of Markdown's would be something else.
    text = text.replace("<", "\\<")
    return textwrap.wrap(
        text,
        COLUMNS,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _foreign() -> str:
    lines = ["## Foreign spellings\n", _LEGEND]
    for (action, ours, note), rows in itertools.groupby(ROWS, _meaning):
        theirs = ", ".join(f"`{row.theirs}`" for row in rows)
        text = f"* {theirs}: {action}"
        text += f", `{ours}`" if ours else ""
        lines += _filled(text + (f"; {note}" if note else ""), "  ")
    return "\n".join(lines) + "\n"


def _meaning(row: Row) -> tuple[str, str, str]:
    return row.action, row.ours, row.note


if __name__ == "__main__":
    sys.stdout.write(reference())
