"""
Translation: a connector's entries on their way to our spellings.

Owns what is taken, what it became, and the rule that a foreign key and ours
for the same thing are an error together.

Path: ``foreign`` -> here <- ``convert``
"""

from __future__ import annotations

from engine.config import keys
from engine.config.entries import Entry, Findings
from engine.config.kinds import Kind, Password
from engine.observe.redact import MASK


class Translation:
    """
    The entries of one connector while they are translated into our keys.

    Attributes:
        dialect: "v1", "v2" or "castorm".
        entries: What has not been looked at yet, by name; a conversion may
            take siblings out of it.
        ours: What there is under our keys, by name.
    """

    def __init__(self, entries: dict[str, Entry], dialect: str, findings: Findings):
        self.dialect = dialect
        self.entries = dict(entries)
        self._stated = dict(entries)
        self.ours: dict[str, Entry] = {}
        self._findings = findings

    def peek(self, number: int | None, key: str) -> Entry | None:
        """An entry as it was stated or put: of the api, else of the connector."""
        for name in (_name(number, key), key):
            entry = self._stated.get(name) or self.ours.get(name)
            if entry is not None:
                return entry
        return None

    def stated(self, number: int | None, key: str) -> bool:
        """Whether the file states a key for exactly this api."""
        return _name(number, key) in self._stated

    def drop(self, number: int | None, key: str) -> Entry | None:
        """Take an entry of exactly this api back, wherever it is now."""
        name = _name(number, key)
        entry = self.entries.pop(name, None)
        return self.ours.pop(name, None) or entry

    def put(
        self,
        number: int | None,
        key: str,
        text: str,
        source: Entry,
        *,
        secret: bool = False,
        weak: bool = False,
    ) -> bool:
        """
        Set one of our keys in place of `source`.

        Args:
            secret: True if the value is never to be shown.
            weak: True to leave a value alone that is there already.

        Returns: whether it was set.
        """
        name = _name(number, key)
        other = self.ours.get(name) or self.entries.get(name)
        if other is not None:
            if not weak:
                self._findings.add(
                    "error",
                    f"the same as {name}, which {other.file}:{other.line} states, "
                    "too: leave one of them out",
                    file=source.file,
                    line=source.line,
                    key=source.key,
                )
            return False
        self.ours[name] = Entry(
            source.key,
            text,
            source.file,
            source.line,
            source.near,
            public=source.public,
            secret=secret,
        )
        return True

    def notice(self, entry: Entry, message: str) -> None:
        """Say what became of an entry."""
        self._say("notice", entry, message)

    def taken(self, number: int | None, entry: Entry, key: str, note: str = "") -> None:
        """Say that an entry was taken as our key."""
        more = f"; {note}" if note else ""
        self.notice(entry, f"taken as {_name(number, key)}{more}")

    def became(self, number: int | None, entry: Entry, note: str, *names: str) -> None:
        """Say what our keys are now."""
        results = []
        for key in names:
            name = _name(number, key)
            ours = self.ours.get(name)
            kind = kind_of_ours(key)
            if ours is not None:
                hidden = ours.secret or isinstance(kind, Password)
                results.append(f"{name}={MASK if hidden else ours.text}")
        more = f"; {note}" if note else ""
        self.notice(entry, f"taken as {', '.join(results) or 'nothing'}{more}")

    def void(self, entry: Entry, note: str) -> None:
        """Say that an entry has no effect."""
        self._say("warning", entry, f"no effect here: {note}")

    def refuse(self, entry: Entry, note: str) -> None:
        """Say that an entry cannot be followed."""
        self._say("error", entry, f"refused: {note}")

    def _say(self, severity: str, entry: Entry, message: str) -> None:
        # Without the value: a foreign key's name says little about secrets.
        self._findings.add(
            severity, message, file=entry.file, line=entry.line, key=entry.key
        )


def kind_of_ours(key: str) -> Kind | None:
    """The kind of one of our keys, or None."""
    found = keys.find(key)
    return found.kind if found is not None else None


def _name(number: int | None, key: str) -> str:
    return key if number is None else f"api{number}.{key}"
