"""
Load: files and overrides to a configuration, or to everything wrong with it.

Owns the order of the steps: read, lay over one another, translate foreign
spellings, resolve providers, read types, fill in defaults, check rules.  No
step ends the search; all findings come out at once.

Path: ``documents`` -> here -> ``values``; called by ``cli`` and ``supervisor``
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from engine.config import aws, foreign, keys, rules, rules_between
from engine.config.built import absent_defaults, unbuilt
from engine.config.documents import Reader
from engine.config.draft import _Draft, _filled
from engine.config.entries import Document, Entry, Findings
from engine.config.kinds import (
    BodyText,
    Bool,
    Choice,
    CommaList,
    Header,
    Headers,
    Int,
    InvalidValue,
    Json,
    Kind,
    Number,
    Params,
    Password,
    TemplateText,
    is_template,
    nearest,
    split_headers,
)
from engine.config.masking import holds_secret, learn_secrets, masked
from engine.config.providers import Providers, Restriction, Unresolved
from engine.config.values import ConfigValue, Loaded, Values
from engine.errors import ConfigError

#: Nearest keys are looked for this often; beyond it a file is no configuration.
MOST_GUESSES = 10

#: An empty value of these means `none` (Kafka's own spelling), not "unset".
_EMPTY_MEANS_NONE = "ssl.endpoint.identification.algorithm"


def load(
    paths: Sequence[Path | str],
    overrides: Sequence[str] = (),
    *,
    stdin: BinaryIO | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """
    Read, join and check a configuration.

    Args:
        paths: Files, left to right; "-" reads `stdin`.
        overrides: `key=value`, on top of all; the last of a key counts.
        environment: What `${env:}` sees; None: the process's own.

    Raises: ConfigError, with every finding that is an error.
    Blocks: on the disk only.
    """
    return Loading(os.environ if environment is None else environment).load(
        paths, overrides, stdin
    )


class Loading:
    """One load: what is known on the way."""

    def __init__(self, environment: Mapping[str, str]):
        self._findings = Findings()
        self._environment = environment
        self._providers = Providers(environment)
        self._guesses = 0

    def load(
        self,
        paths: Sequence[Path | str],
        overrides: Sequence[str],
        stdin: BinaryIO | None,
    ) -> Loaded:
        findings = self._findings
        if not paths:
            raise ConfigError("no configuration file is named")
        reader = Reader(kind_of, findings)
        documents = [
            document for path in paths for document in reader.read(path, stdin)
        ]
        self._fail_if_unreadable(documents, reader.failure)
        on_top = self._overrides(overrides)
        return self._made(documents, Path(str(paths[0])).stem, on_top)

    def member(
        self,
        document: Document,
        layers: Sequence[Path | str],
        overrides: Sequence[str],
    ) -> Loaded:
        """
        One connector above some layers.

        Raises: ConfigError, with every finding that is an error.
        """
        documents = [*self._below(layers), document]
        return self._made(documents, document.name or "", self._overrides(overrides))

    def worker(
        self,
        layers: Sequence[Path | str],
        overrides: Sequence[str],
        stdin: BinaryIO | None = None,
    ) -> Loaded:
        """
        What holds for a process that has no connector yet.

        Raises: ConfigError.
        """
        documents = self._below(layers, stdin)
        on_top = self._overrides(overrides)
        joined = _join(documents, "", on_top, self._findings)
        process = self._process([self._connector(*parts) for parts in joined])
        rules_between.check_all((), process, self._findings)
        if self._findings.errors:
            raise ConfigError(self._findings.errors)
        return Loaded(
            connectors=(),
            process=process,
            findings=self._findings.all,
            variables=frozenset(self._providers.variables),
        )

    def _below(
        self, layers: Sequence[Path | str], stdin: BinaryIO | None = None
    ) -> list[Document]:
        reader = Reader(kind_of, self._findings)
        found = [each for path in layers for each in reader.read(path, stdin)]
        if self._findings.errors:
            raise reader.failure(self._findings.errors)
        return found

    def _made(
        self, documents: Sequence[Document], stem: str, on_top: Mapping[str, Entry]
    ) -> Loaded:
        findings = self._findings
        joined = _join(documents, stem, on_top, findings)
        drafts = [self._connector(*parts) for parts in joined]
        process = self._process(drafts)
        connectors = tuple(draft.connector for draft in drafts)
        for connector in connectors:
            rules.check_connector(connector, findings)
        rules_between.check_all(connectors, process, findings)
        asks = unbuilt(connectors, process, findings)
        if findings.errors:
            beside = [each for each in findings.all if each.severity != "error"]
            raise ConfigError(findings.errors, beside=beside)
        for connector in connectors:
            rules.memory_is_enough(connector, findings)
        return Loaded(
            connectors=connectors,
            process=process,
            findings=findings.all,
            unbuilt=asks,
            absent=absent_defaults(connectors),
            variables=frozenset(self._providers.variables),
        )

    def _fail_if_unreadable(
        self, documents: Sequence[Document], failure: type[ConfigError]
    ) -> None:
        if not documents and not self._findings.errors:
            self._findings.add("error", "no connector in it")
        # What the other files say hangs on the one that is missing.
        if not documents or failure is not ConfigError:
            raise failure(self._findings.errors)

    def _overrides(self, overrides: Sequence[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for number, text in enumerate(overrides, 1):
            key, separator, value = text.partition("=")
            key = key.strip()
            if not separator or not key:
                self._findings.add(
                    "error", "allowed: --set key=value", file="--set", line=number
                )
                continue
            found[key] = Entry(key, value.strip(" \t"), "--set", number, Path.cwd())
        return found

    def _connector(self, name: str, entries: dict[str, Entry], state: str) -> _Draft:
        findings = self._findings
        entries = foreign.translate(entries, findings)
        known = self._known(entries)
        count = self._count_apis(known)
        restriction = self._restriction(known)
        if "env" in restriction.allowed:
            known |= aws.standing_in(known, self._environment)
        cells: dict[tuple[int | None, str], ConfigValue] = {}
        for (number, key), entry in known.items():
            table = keys.find(key)
            if table is None:
                continue
            value = self.typed(key, entry, table.kind, restriction)
            if value is not None:
                cells[number, key] = ConfigValue(value[0], entry)
            else:
                self._findings.spoiled.add(
                    key if number is None else f"api{number}.{key}"
                )
        return _Draft(name, cells, count, state, findings, restriction)

    def _known(
        self, entries: Mapping[str, Entry]
    ) -> dict[tuple[int | None, str], Entry]:
        """The entries by api's number and key; says what is no key of ours."""
        found = {}
        for name, entry in entries.items():
            number, key = keys.split_api(name)
            table = keys.find(key)
            if table is None:
                self._unknown(entry, name)
            elif number is not None and table.scope != "A":
                self._findings.add(
                    "error",
                    f"{key} has one value a "
                    f"{'process' if table.scope == 'P' else 'connector'}: leave out "
                    f"api{number}.",
                    entry=entry,
                    secret=isinstance(table.kind, Password),
                )
            else:
                found[number, key] = entry
        return found

    def _unknown(self, entry: Entry, name: str) -> None:
        number, key = keys.split_api(name)
        near = None
        self._guesses += 1
        if self._guesses <= MOST_GUESSES:
            near = nearest(key, list(keys.TABLE) + foreign.names())
        if near is not None and number is not None:
            near = f"api{number}.{near}"
        self._findings.add(
            "error",
            "unknown key",
            file=entry.file,
            line=entry.line,
            key=entry.key,
            nearest=near,
        )

    def _count_apis(self, known: Mapping[tuple[int | None, str], Entry]) -> int:
        """How many apis there are; says what is wrong with their numbers."""
        numbers = {number: entry for (number, _), entry in known.items() if number}
        stated = known.get((None, "apis.num"))
        count = max(numbers, default=1)
        if stated is not None:
            try:
                count = int(str(keys.TABLE["apis.num"].kind.read(stated.text, Path())))
            except InvalidValue:
                return min(count, 1000)
        for number, entry in sorted(numbers.items()):
            if number > count or number > 1000:
                self._findings.add(
                    "error",
                    f"api{number} is above apis.num={count}",
                    entry=entry,
                    secret=True,
                )
        count = min(count, 1000)
        missing = [number for number in range(1, count + 1) if number not in numbers]
        if missing and count > 1:
            entry = stated or numbers[max(numbers)]
            shown = ", ".join(f"api{number}" for number in missing[:5])
            self._findings.add(
                "error",
                f"a gap in the numbering: {shown} has no key, there are {count} apis",
                entry=entry,
                secret=entry is not stated,
            )
        return count

    def _restriction(
        self, known: Mapping[tuple[int | None, str], Entry]
    ) -> Restriction:
        """What providers may do; these keys are read before any provider."""

        def read(key: str) -> object:
            entry = known.get((None, key))
            if entry is None:
                return None
            try:
                return keys.TABLE[key].kind.read(entry.text, entry.near)
            except InvalidValue:
                return None

        allowed = read("config.providers")
        paths = {}
        for word in ("file", "dir", "directory"):
            roots = read(f"config.providers.{word}.param.allowed.paths")
            if isinstance(roots, tuple):
                paths[word] = roots
        if "dir" in paths:
            paths.setdefault("directory", paths["dir"])
        elif "directory" in paths:
            paths["dir"] = paths["directory"]
        pattern = read("config.providers.env.param.allowlist.pattern")
        return Restriction(
            frozenset(allowed) if isinstance(allowed, tuple) else Restriction().allowed,
            paths,
            pattern if isinstance(pattern, str) else None,
        )

    def typed(
        self, key: str, entry: Entry, kind: Kind, may: Restriction
    ) -> tuple[object] | None:
        """The typed value in a tuple, or None where it is a finding."""
        secret = isinstance(kind, Password) or entry.secret
        learn_secrets(entry, kind)
        try:
            provided = self._providers.find(entry.text)
            value = self._read(key, entry, kind, may)
        except Unresolved as error:
            self._findings.add("error", str(error), entry=masked(entry, kind))
            return None
        except InvalidValue as error:
            for one in (error,) if provided else error.each:
                message = str(one)
                if provided:
                    message = (
                        f"what it stands for does not fit, allowed: {kind.allowed}"
                    )
                self._findings.add(
                    "error",
                    message,
                    entry=masked(entry, kind),
                    nearest=None if provided or secret else one.nearest,
                    place=_place(entry.text, None if provided else one.at),
                )
            return None
        if not provided and entry.public and holds_secret(entry, kind):
            self._findings.add(
                "warning",
                "a literal secret in a file that others can read: chmod 600, or "
                "${env:NAME}, ${file:PATH} in its place",
                entry=masked(entry, kind),
            )
        return (value,)

    def _read(self, key: str, entry: Entry, kind: Kind, may: Restriction) -> object:
        near = entry.near
        if isinstance(kind, Headers):
            return kind.check(self._headers(entry, may))
        if entry.items is not None and isinstance(kind, CommaList):
            return kind.read_items(
                [self._resolve(item, entry, kind, may) for item in entry.items], near
            )
        text = self._resolve(entry.text, entry, kind, may)
        if isinstance(kind, Header):
            name = key.removeprefix("http.source.header.")
            return Headers(kind.names).check([(name, text)])[0][1]
        return kind.read(text, near)

    def _headers(self, entry: Entry, may: Restriction) -> list[tuple[str, str]]:
        """
        A header list's items; providers are resolved behind the splitting, so
        that nothing that comes out of one starts a header of its own.
        """
        if re.fullmatch(r"\s*\$\{[^{}]*\}\s*", entry.text):
            text = self._resolve(entry.text, entry, None, may)
            return split_headers(text)
        return [
            (name, self._resolve(value, entry, None, may))
            for name, value in split_headers(entry.text)
        ]

    def _resolve(
        self, text: str, entry: Entry, kind: Kind | None, may: Restriction
    ) -> str:
        return self._providers.resolve(
            text,
            entry.near,
            may,
            template=kind is None or is_template(kind) or isinstance(kind, Json),
            hidden=not isinstance(kind, Bool | Int | Number | Choice),
            insert=_insertion(text, kind),
        )

    def _process(self, drafts: Sequence[_Draft]) -> Values:
        """Scope P over all connectors; different values are an error."""
        cells: dict[str, ConfigValue] = {}
        for draft in drafts:
            for (_, key), cell in draft.cells.items():
                table = keys.find(key)
                if table is None or table.scope != "P" or cell.entry is None:
                    continue
                first = cells.get(key)
                if first is not None and first.value != cell.value and first.entry:
                    self._findings.add(
                        "error",
                        "one value for the whole process, but "
                        f"{first.entry.file}:{first.entry.line} states another",
                        entry=masked(cell.entry, table.kind),
                    )
                cells.setdefault(key, cell)
        name = drafts[0].name if drafts else ""
        return Values(_filled(cells, "P", lambda key: name if key == "name" else None))


def kind_of(name: str) -> Kind | None:
    """The kind of a key, `apiN.` and foreign spellings included, or None."""
    key = keys.find(keys.split_api(name)[1])
    if key is not None:
        return key.kind
    return foreign.kind_of(name)


def _join(
    documents: Sequence[Document],
    stem: str,
    on_top: Mapping[str, Entry],
    findings: Findings,
) -> list[tuple[str, dict[str, Entry], str]]:
    """
    The connectors' entries, layers laid over one another left to right.

    A layer lies under the documents to its right and over those to its left,
    so that each connector is simply all layers and its own documents in order.
    """
    named = dict.fromkeys(doc.name for doc in documents if doc.name)
    names: list[str | None] = [*named] or [None]
    if "name" in on_top and len(names) > 1:
        findings.add(
            "error", "there are several connectors: which one?", entry=on_top["name"]
        )
        on_top = {key: entry for key, entry in on_top.items() if key != "name"}
    joined = []
    for name in names:
        entries: dict[str, Entry] = {}
        state = "RUNNING"
        for document in documents:
            if document.name in (None, name):
                entries |= document.entries
                if document.name is not None:
                    state = document.initial_state
        entries |= on_top
        kept = {
            key: _emptied(entry)
            for key, entry in entries.items()
            if entry.text or key.endswith(_EMPTY_MEANS_NONE)
        }
        stated = kept.get("name")
        joined.append((stated.text if stated else name or stem, kept, state))
    return joined


def _emptied(entry: Entry) -> Entry:
    if entry.text:
        return entry
    return Entry(entry.key, "none", entry.file, entry.line, entry.near)


def _insertion(text: str, kind: Kind | None) -> Callable[[str], str] | None:
    """How a provider's value is put into a text that has a syntax of its own."""
    whole = re.fullmatch(r"\s*\$\{[^{}]*\}\s*", text)
    if whole or kind is None:
        return None
    if isinstance(kind, Params):
        return lambda value: quote(value, safe="")
    if isinstance(kind, Json) or (
        isinstance(kind, BodyText) and text[:1] in ("{", "[")
    ):
        return lambda value: json.dumps(value, ensure_ascii=False)[1:-1].replace(
            "${", "$${" if is_template(kind) else "${"
        )
    if isinstance(kind, TemplateText) and kind.url and "?" in text.partition("${")[0]:
        return lambda value: quote(value, safe="")
    return None


def _place(text: str, at: int | None) -> tuple[int, int]:
    """Lines below the first one, and column, of a place in a value; (0, 0) in line 1."""
    below = text.count("\n", 0, at) if at is not None else 0
    if at is None or not below:
        return 0, 0
    return below, at - text.rfind("\n", 0, at)
