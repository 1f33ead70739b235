r"""
Properties: lines of text to keys and values, each with its line.

Owns Java's escapes and what differs from Java on purpose: inline comments,
JSON over several lines, a second `name=`, and no backslash that is dropped
in silence.  It knows of a key only its kind, which decides what a `#` is.

Path: ``documents`` -> here -> ``load``
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from engine.config.entries import Document, Entry, Findings
from engine.config.kinds import Comment, Kind, comment_rule, is_json
from engine.later import pattern

#: A value in JSON may run over so many lines.
MOST_LINES = 1000

_BLANK = " \t\f"
_KEY = pattern(r"[A-Za-z0-9._-]+")
_HEADER_KEY = pattern(
    r"(api[0-9]+\.)?http\.source\.header\.[!#$%&'*+.^_`|~0-9A-Za-z-]+"
)
_ESCAPE = pattern(r"\\(u[0-9a-fA-F]{4}|.|$)", re.DOTALL)
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_LITERAL = frozenset("\\=:#! ")

#: What can end a value, be an escape, or hide a `#`.
_MARKS = pattern(r"\\.?|[ \t\f]#|\"|'|\$\{|\}", re.DOTALL)

#: What moves the depth of JSON text.
_JSON_MARKS = pattern(r"\"(?:[^\"\\]|\\.)*(\"|\\?$)|[\[{\]}]|[ \t\f]#")

#: A line like this begins another key: JSON that reaches it was never closed.
_NEXT_KEY = pattern(r"[ \t\f]*([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+)[ \t\f]*=")


class Properties:
    """
    The reader of one file's text.

    Args:
        file: As the user named it.
        near: The directory that relative paths start at.
        public: True if others may read the file.
        kind_of: The kind of a key, `apiN.` included; None if it is unknown.
        findings: Where to write what is wrong.
    """

    def __init__(
        self,
        text: str,
        *,
        file: str,
        near: Path,
        public: bool,
        kind_of: Callable[[str], Kind | None],
        findings: Findings,
    ):
        self._lines = text.split("\n")
        self._file = file
        self._near = near
        self._public = public
        self._kind_of = kind_of
        self._findings = findings
        self._at = 0

    def documents(self) -> list[Document]:
        """The file's documents: one for each `name=`, or a single layer."""
        entries = self._entries()
        starts = [
            index
            for index, entry in enumerate(entries)
            if entry.key == "name" and entry.text
        ]
        if len(starts) < 2:
            name = entries[starts[0]].text if starts else None
            return [Document(name, self._unique(entries), self._file)]
        common = self._unique(entries[: starts[0]])
        documents: list[Document] = []
        for start, end in zip(starts, [*starts[1:], len(entries)]):
            own = self._unique(entries[start:end])
            name = entries[start].text
            if any(name == document.name for document in documents):
                self._findings.add(
                    "error",
                    "two connectors of one name in this file",
                    entry=entries[start],
                )
                continue
            documents.append(Document(name, common | own, self._file))
        return documents

    def _unique(self, entries: list[Entry]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for entry in entries:
            if (first := found.get(entry.key)) is not None:
                self._findings.add(
                    "error",
                    f"stands here twice, in lines {first.line} and {entry.line}",
                    file=entry.file,
                    line=entry.line,
                    key=entry.key,
                )
                continue
            found[entry.key] = entry
        return found

    def _entries(self) -> list[Entry]:
        entries = []
        while self._at < len(self._lines):
            line = self._lines[self._at].lstrip(_BLANK)
            self._at += 1
            if not line or line[0] in "#!":
                continue
            entry = self._entry(line, self._at)
            if entry is not None:
                entries.append(entry)
        return entries

    def _entry(self, line: str, number: int) -> Entry | None:
        found = re.search("[=:]", line)
        if found is None:
            self._error(number, "", "no '=': allowed: key=value")
            while _continued(line) and self._at < len(self._lines):
                line = self._lines[self._at]
                self._at += 1
            return None
        key = line[: found.start()].rstrip(_BLANK)
        kind = self._kind_of(key)
        known = _KEY.fullmatch(key) or _HEADER_KEY.fullmatch(key)
        if not key:
            self._error(number, "", "no key before the separator")
        elif not known:
            self._error(number, key[:200], "a key is made of A-Z a-z 0-9 . _ -")
        text = self._value(line[found.end() :], key, kind, number)
        if not known or text is None:
            return None
        return Entry(key, text, self._file, number, self._near, public=self._public)

    def _value(self, rest: str, key: str, kind: Kind | None, number: int) -> str | None:
        if is_json(kind):
            begin = self._at
            start = rest.strip(_BLANK)
            while start == "\\" and self._at < len(self._lines):
                start = self._lines[self._at].strip(_BLANK)
                self._at += 1
            if start[:1] in ("[", "{"):
                return self._json(start, key, number)
            self._at = begin
        raw = self._logical(rest, key, kind, number)
        if raw is None:
            return None
        return self._unescape(raw, key, number)

    def _json(self, first: str, key: str, number: int) -> str | None:
        """A value in JSON: whole lines until its brackets balance."""
        depth = 0
        pieces = []
        line = first
        for _ in range(MOST_LINES):
            depth, line, closed = _scan_json(line, depth)
            pieces.append(line)
            if closed:
                return "\n".join(pieces).strip(" \t\f\n")
            if self._at >= len(self._lines):
                break
            line = self._lines[self._at]
            following = _NEXT_KEY.match(line)
            if following and self._kind_of(following.group(1)) is not None:
                break
            self._at += 1
            if line.lstrip(_BLANK).startswith("#"):
                line = ""
        self._error(
            number,
            key,
            f"its brackets are not closed before line {self._at + 1}, "
            f"allowed: at most {MOST_LINES} lines",
        )
        return None

    def _logical(
        self, rest: str, key: str, kind: Kind | None, number: int
    ) -> str | None:
        """The value over its continued lines, comment and outer blanks cut."""
        rule = comment_rule(kind)
        scan = _Scan(rule)
        pieces: list[str] = []
        piece = rest
        while True:
            comment = scan.comment(piece)
            if comment is not None:
                if rule is Comment.REFUSED:
                    self._error(
                        number,
                        key,
                        "a blank and '#' inside this value: write '\\#' if it is "
                        "text, or put the comment on a line of its own",
                    )
                    return None
                pieces.append(piece[:comment])
                break
            if not _continued(piece):
                pieces.append(piece)
                break
            pieces.append(piece[:-1])
            if self._at >= len(self._lines) or (
                self._at == len(self._lines) - 1 and not self._lines[self._at]
            ):
                self._error(
                    number, key, "a backslash at the end of the file joins nothing"
                )
                return None
            piece = self._lines[self._at].lstrip(_BLANK)
            self._at += 1
        raw = "".join(pieces).lstrip(_BLANK)
        kept = raw.rstrip(_BLANK)
        # An escaped blank at the end is text: give it back.
        return raw[: len(kept) + 1] if _continued(kept) else kept

    def _unescape(self, raw: str, key: str, number: int) -> str | None:
        if "\\" not in raw:
            return raw
        wrong: list[str] = []

        def replace(found: re.Match[str]) -> str:
            code = found.group(1)
            if len(code) == 5:
                return chr(int(code[1:], 16))
            if code in _ESCAPES:
                return _ESCAPES[code]
            if code in _LITERAL and code:
                return code
            wrong.append(found.group())
            return code

        text = _ESCAPE.sub(replace, raw)
        if wrong:
            first = wrong[0]
            self._error(
                number,
                key,
                f"backslash before {first[1:]!r}: write \\\\{first[1:]} for the "
                "backslash itself; escapes are \\t \\n \\r \\f \\\\ \\= \\: \\# \\! "
                "\\uXXXX",
            )
            return None
        try:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._error(number, key, "half of a surrogate pair in \\uXXXX")
            return None
        if "\0" in text:
            self._error(number, key, "a NUL character")
            return None
        return text

    def _error(self, line: int, key: str, message: str) -> None:
        self._findings.add("error", message, file=self._file, line=line, key=key)


class _Scan:
    """Looks for an inline comment; remembers quotes over continued lines."""

    def __init__(self, rule: Comment):
        self._quotes = "\"'" if rule is Comment.ENDS_OUTSIDE_QUOTES else '"'
        self._text = rule is Comment.TEXT
        self._template = rule is Comment.ENDS_OUTSIDE_TEMPLATE
        self._quote = ""
        self._depth = 0

    def comment(self, piece: str) -> int | None:
        """Where the blank before a comment's `#` stands, or None."""
        if self._text:
            return None
        for found in _MARKS.finditer(piece):
            mark = found.group()
            if mark[0] == "\\":
                continue
            if mark in self._quotes:
                if not self._quote:
                    self._quote = mark
                elif self._quote == mark:
                    self._quote = ""
            elif mark == "${":
                self._depth += 1
            elif mark == "}":
                self._depth = max(0, self._depth - 1)
            elif mark[-1] == "#" and not self._quote:
                if self._template and self._depth:
                    continue
                return found.start()
        return None


def _continued(line: str) -> bool:
    """Whether the line ends in a backslash that is not itself escaped."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _scan_json(line: str, depth: int) -> tuple[int, str, bool]:
    """
    Follow the brackets over one line.

    Returns: the depth behind it, the line without its comment, and whether
    the value is closed.
    """
    for found in _JSON_MARKS.finditer(line):
        mark = found.group()
        if mark[-1] == "#" and mark[0] != '"':
            line = line[: found.start()].rstrip(_BLANK)
            break
        if mark in ("[", "{"):
            depth += 1
        elif mark in ("]", "}"):
            depth -= 1
            if depth == 0:
                # What follows on the line is the reader's to refuse.
                tail = re.search(r"[ \t\f]#", line[found.end() :])
                end = found.end() + tail.start() if tail else len(line)
                return 0, line[:end], True
    if depth and _continued(line) and line.count('"') % 2 == 0:
        line = line[:-1]
    return depth, line, False
