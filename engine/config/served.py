"""
Served: all that an engine runs, files of the command line and a directory of them.

Owns which file a connector stands in, and who may change it.  Files of the command line
are their owner's: one that is wrong refuses the start, or the reload.  In the directory
each file is a connector, taken up and left out by itself: a bad one is said once and
never stops the good ones, and what ran of it before goes on.  Files of the command line
that name no connector are layers below all of the directory's, as Connect's worker file
is.

Path: ``cli.run`` and ``admin.configuring`` -> here -> ``load``
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from msgspec import Struct

from engine.config.documents import Reader
from engine.config.entries import Document, Entry, Findings
from engine.config.keys import split_api
from engine.config.load import Loading, kind_of
from engine.config.values import Connector, Loaded
from engine.errors import ConfigError, Finding, NoInput

log = logging.getLogger("config")

#: What a file of a connector ends with; the first is what is written here, and
#: counts where two files name one connector.
SUFFIXES = (".json", ".properties")

#: How a file is told from its successor.
_Stamp = tuple[int, int, int]


class Member(Struct, frozen=True):
    """
    A file of the directory as it was read last.

    Attributes:
        stamp: Of the file.
        loaded: What runs of it, or None: it never was any good.
        document: Its own keys, as they are written.
        error: Why what it says now is no good, or "".
    """

    stamp: _Stamp
    loaded: Loaded | None
    document: Document | None
    error: str = ""


class Served:
    """
    Args:
        files: Of the command line.
        overrides: Of `--set`, over all of them.
        directory: `--connectors`, or None.
        environment: What `${env:}` sees, for the life of this object: a child that
            reads again has fewer variables than the supervisor.

    Attributes:
        directory: As given.
        quiet: What is wrong with a file is said by another process.
    """

    def __init__(
        self,
        files: Sequence[Path | str],
        overrides: Sequence[str] = (),
        *,
        directory: Path | None = None,
        stdin: BinaryIO | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.absolute() if directory is not None else None
        self._files = tuple(files)
        self._overrides = tuple(overrides)
        self._environment = dict(os.environ if environment is None else environment)
        # Standard input is there once, and a reload needs it again.
        self._stdin = stdin
        self._read: bytes | None = None
        self.quiet = False
        self._members: dict[str, Member] = {}
        self._owned: Loaded | None = None
        self._layers: tuple[Path | str, ...] = ()
        self._pending: tuple[str, str] | None = None
        # The admin process reads and writes the directory on several threads. A change reads what
        # stands there, writes files and remembers them; another change in between would be taken
        # for a stranger's. Reentrant, since a change loads everything again under it.
        self._lock = threading.RLock()

    # --- reading ---------------------------------------------------------------

    def load(self) -> Loaded:
        """
        Read all files again, of the command line and of the directory.

        Raises: ConfigError if a file of the command line is no good, or the
            directory cannot be read.
        Blocks: on the disk only.
        """
        with self._lock:
            if self.directory is None:
                self._owned = self._loading().load(
                    self._files, self._overrides, self._stream()
                )
                return self._owned
            self._layers, named = self._sorted()
            owned = (
                self._loading().load(
                    [*self._layers, *named], self._overrides, self._stream()
                )
                if named
                else self._loading().worker(
                    self._layers, self._overrides, self._stream()
                )
            )
            self._scan(again=owned != self._owned)
            self._owned = owned
            return self._together()

    def changed(self) -> bool:
        """
        True if the directory holds other files than were read last.

        Blocks: for one look at each of them, 2 us a file.
        """
        if self.directory is None:
            return False
        try:
            return self._stamps() != {n: m.stamp for n, m in self._members.items()}
        except OSError:
            return False

    def errors(self) -> dict[str, str]:
        """File of the directory -> why what it says now is no good."""
        return {name: m.error for name, m in self._members.items() if m.error}

    def file_of(self, connector: str) -> str | None:
        """The file of the directory that a connector stands in, or None."""
        found = [
            name
            for name, member in sorted(self._members.items())
            if member.loaded is not None
            and member.loaded.connectors[0].name == connector
        ]
        return found[0] if found else None

    def owner(self, connector: str) -> str | None:
        """The file of the command line that a connector stands in, or None."""
        for each in self._owned.connectors if self._owned is not None else ():
            if each.name == connector:
                return file_of(each)
        return None

    def texts(self, connector: str) -> dict[str, str]:
        """
        A connector's own keys as its file of the directory has them.

        Raises: KeyError if it stands in none.
        """
        return {key: entry.text for key, entry in self.entries(connector).items()}

    def entries(self, connector: str) -> dict[str, Entry]:
        """
        As `texts`, with all that is known of each line.

        Raises: KeyError.
        """
        name = self.file_of(connector)
        document = self._members[name].document if name is not None else None
        if document is None:
            raise KeyError(connector)
        return document.entries

    def check(self, name: str, texts: Mapping[str, str]) -> Loaded:
        """
        What a connector of these keys would be, above the layers.

        Raises: ConfigError, with every finding.
        """
        near = self.directory if self.directory is not None else Path.cwd()
        entries = {key: Entry(key, text, name, 0, near) for key, text in texts.items()}
        with self._lock:
            loaded = self._loading().member(
                Document(name, entries, name), self._layers, self._overrides
            )
        return _checked(loaded, name)

    # --- changing: the supervisor's part ------------------------------------------

    def put(self, connector: str, draft: str) -> Loaded:
        """
        All there is with a draft in the place of a connector's file; `keep` makes
        it so.

        Args:
            draft: Name of a file in the directory.

        Raises: ConfigError; nothing is changed then.
        """
        with self._lock:
            assert self.directory is not None
            member = self._member(draft, stem=connector)
            if member.loaded is None:
                raise ConfigError(member.error)
            if member.loaded.connectors[0].name != connector:
                raise ConfigError(
                    f"the file names {member.loaded.connectors[0].name!r}"
                )
            old = self.file_of(connector)
            name = f"{quote(connector, safe='')}{SUFFIXES[0]}"
            if old is not None and old.endswith(SUFFIXES[0]):
                name = old
            self._pending = (draft, name)
            return self._together({old or name: None, name: member})

    def drop(self, connector: str) -> Loaded:
        """
        All there is without a connector; `keep` makes it so.

        Raises: KeyError if it stands in no file of the directory.
        """
        with self._lock:
            name = self.file_of(connector)
            if name is None:
                raise KeyError(connector)
            self._pending = ("", name)
            return self._together({name: None})

    def keep(self) -> None:
        """
        Do what `put` or `drop` prepared, so that it outlives the machine's end.

        Raises: OSError; nothing is changed then.
        Blocks: for two fsyncs.
        """
        with self._lock:
            assert self.directory is not None and self._pending is not None
            (draft, name), self._pending = self._pending, None
            path = self.directory / name
            if draft:
                connector = self._member(draft).loaded
                old = self.file_of(connector.connectors[0].name) if connector else None
                (self.directory / draft).replace(path)
                if old is not None and old != name:
                    # What somebody wrote by hand is kept beside it.
                    (self.directory / old).replace(f"{self.directory / old}.replaced")
            else:
                path.unlink()
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._scan()

    # --- inside -------------------------------------------------------------------

    def _loading(self) -> Loading:
        return Loading(self._environment)

    def _stream(self) -> BinaryIO | None:
        if self._stdin is None or "-" not in map(str, self._files):
            return None
        if self._read is None:
            self._read = self._stdin.read()
        return BytesIO(self._read)

    def _sorted(self) -> tuple[tuple[Path | str, ...], tuple[Path | str, ...]]:
        """
        The files that name no connector, and those that do.

        Without any name all of them are one connector, where they say what to ask.
        """
        layers: list[Path | str] = []
        named: list[Path | str] = []
        asks = False
        for file in self._files:
            found = Reader(kind_of, Findings()).read(file, self._stream())
            own = not found or any(document.name for document in found)
            (named if own else layers).append(file)
            asks = asks or any(
                split_api(key)[1] == "http.source.url"
                for document in found
                for key in document.entries
            )
        if asks and not named:
            return (), tuple(layers)
        return tuple(layers), tuple(named)

    def _stamps(self) -> dict[str, _Stamp]:
        assert self.directory is not None
        found = {}
        with os.scandir(self.directory) as listing:
            for each in listing:
                if each.name.startswith(".") or not each.name.endswith(SUFFIXES):
                    continue
                try:
                    seen = each.stat()
                except OSError:
                    continue
                found[each.name] = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
        return found

    def _scan(self, *, again: bool = False) -> None:
        """
        Take up the files that are new or other, and let go of those that are gone.

        Args:
            again: All of them: what lies below or above them has changed.
        """
        assert self.directory is not None
        try:
            stamps = self._stamps()
        except OSError as failure:
            raise NoInput(
                f"{self.directory}: {failure.strerror} (--connectors)"
            ) from failure
        for name in [name for name in self._members if name not in stamps]:
            del self._members[name]
        for name, stamp in sorted(stamps.items()):
            before = self._members.get(name)
            if before is not None and before.stamp == stamp and not again:
                continue
            member = self._member(name, stamp)
            if member.error and (before is None or member.error != before.error):
                self.say("%s is left as it was: %s", name, member.error)
            if member.error and before is not None:
                # What ran of it before goes on.
                member = Member(stamp, before.loaded, before.document, member.error)
            self._members[name] = member

    def _member(
        self, name: str, stamp: _Stamp = (0, 0, 0), *, stem: str | None = None
    ) -> Member:
        assert self.directory is not None
        path = self.directory / name
        findings = Findings()
        documents = Reader(kind_of, findings).read(path, None)
        document = documents[0] if len(documents) == 1 else None
        try:
            if findings.errors:
                raise ConfigError(findings.errors)
            if document is None:
                raise ConfigError(f"{path}: a file of --connectors holds one connector")
            own = document.name or stem or path.stem
            named = Document(own, document.entries, str(path), document.initial_state)
            loaded = self._loading().member(named, self._layers, self._overrides)
            return Member(stamp, _checked(loaded, str(path)), named)
        except ConfigError as failure:
            return Member(stamp, None, document, "; ".join(str(failure).split("\n")))

    def _together(self, other: Mapping[str, Member | None] | None = None) -> Loaded:
        """
        The command line's and the directory's connectors, each name once.

        Args:
            other: File -> what to take in its place, None for nothing.
        """
        assert self._owned is not None
        members = {**self._members, **(other or {})}
        connectors = {each.name: each for each in self._owned.connectors}
        owned = set(connectors)
        variables = set(self._owned.variables)
        for name, member in sorted(members.items()):
            if member is None or member.loaded is None:
                continue
            variables |= member.loaded.variables
            connector = member.loaded.connectors[0]
            if connector.name in owned:
                self._said(
                    name,
                    f"a file of the command line already names {connector.name!r}",
                )
            elif connector.name in connectors:
                self._said(name, f"another file already names {connector.name!r}")
            else:
                connectors[connector.name] = connector
        return Loaded(
            connectors=tuple(connectors.values()),
            process=self._owned.process,
            findings=self._owned.findings,
            unbuilt=self._owned.unbuilt,
            absent=self._owned.absent,
            variables=frozenset(variables),
        )

    def say(self, text: str, *values: str) -> None:
        """What people have to mend, unless another process says it."""
        log.log(logging.DEBUG if self.quiet else logging.ERROR, text, *values)

    def _said(self, name: str, error: str) -> None:
        member = self._members.get(name)
        if member is not None and member.error != error:
            self.say("%s is left out: %s", name, error)
            self._members[name] = Member(
                member.stamp, member.loaded, member.document, error
            )


def file_of(connector: Connector) -> str:
    """The file that names a connector, or the first one that says anything of it."""
    origin = connector.values.origin("name")
    if origin is not None:
        return origin[0]
    return next(_files(connector), "")


def _files(connector: Connector) -> Iterator[str]:
    for values in (connector.values, *(api.values for api in connector.apis)):
        for key in values:
            origin = values.origin(key)
            if origin is not None:
                yield origin[0]


def _checked(loaded: Loaded, file: str) -> Loaded:
    """
    A member of the directory that may run beside the others.

    Raises: ConfigError for a key of the process, or of what is not there yet.
    """
    found = []
    for key in loaded.process:
        entry = loaded.process.entry(key)
        if entry is not None and entry.file == file:
            found.append(
                Finding(
                    "error",
                    entry.file,
                    entry.line,
                    entry.key,
                    None,
                    "a key of the whole process: it stands in a file of the command "
                    "line, not in a connector's",
                )
            )
    if found or loaded.unbuilt:
        raise ConfigError([*found, *loaded.unbuilt])
    return loaded
