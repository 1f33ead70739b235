"""
Configuring: the calls of Connect's REST API that make, change and delete connectors.

Owns what is refused before the supervisor hears of it, in Connect's words, and the draft
that it is given.  A connector of the command line's files is its owner's; one of the
directory is a file of its own, replaced whole.  What was sent as a literal secret is
kept in a file beside it, and only a reference to that is ever told.

Source: Kafka Connect 4.3's REST API; KIP-477 (PATCH), KIP-980 (initial state).

Path: ``admin.routes`` -> here -> ``admin.commands`` -> ``config.served``
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from engine.admin import connect, plugins
from engine.admin.answers import (
    AdminRequest,
    AdminResponse,
    Malformed,
    json_answer,
    read_object,
    refusal,
)
from engine.admin.commands import SupervisorClient
from engine.admin.control import DONE, told
from engine.admin.invalid import Invalid, invalid, lines
from engine.admin.secrets import Secrets
from engine.admin.view import EngineView
from engine.config.served import Served
from engine.errors import ConfigError
from engine.shared.link import AskOutcome
from engine.supervisor.targets import RUN_STATES

#: Characters of a name, so that its file's name fits any file system.
LONGEST_NAME = 80

_NO_DIRECTORY = (
    "This engine keeps no connectors of REST: it was started without --connectors DIR"
)


class Configuring:
    """
    Makes, changes and deletes connectors.

    Args:
        view: What is running.
        commands: Asks the supervisor.
        served: What the files say, as this process reads them.
    """

    def __init__(
        self, view: EngineView, commands: SupervisorClient, served: Served
    ) -> None:
        self._view = view
        self._commands = commands
        self._served = served
        self._drafts = itertools.count(1)
        # Two changes at once would take away each other's secrets.
        self._one = threading.Lock()

    def create(self, request: AdminRequest, who: str) -> AdminResponse:
        """`POST /connectors`."""
        sent = read_object(request.body)
        for field in sent.keys() - {"name", "config", "initial_state"}:
            raise Malformed(f'unrecognized field "{field[:80]}"')
        state = sent.get("initial_state")
        word = "RUNNING" if state is None else str(state).upper()
        if word not in RUN_STATES:
            raise Malformed(f"initial_state is one of {', '.join(RUN_STATES)}")
        config = sent.get("config")
        if not isinstance(config, dict):
            raise Malformed("config is needed: a JSON object")
        answer = self._changed(
            lambda: self._put(
                "create",
                _name(sent.get("name", config.get("name", ""))),
                texts_of(config),
                who,
                state=word,
            )
        )
        return self._located(answer, request)

    def put(self, request: AdminRequest, name: str, who: str) -> AdminResponse:
        """`PUT /connectors/{name}/config`."""
        sent = read_object(request.body)
        answer = self._changed(
            lambda: self._put("put", _name(name), texts_of(sent), who)
        )
        return self._located(answer, request)

    def patch(self, request: AdminRequest, name: str, who: str) -> AdminResponse:
        """`PATCH /connectors/{name}/config`; null takes a key out."""
        sent = read_object(request.body)
        return self._changed(lambda: self._patched(sent, name, who))

    def _patched(self, sent: Mapping[str, Any], name: str, who: str) -> AdminResponse:
        refused = self._not_ours(name)
        if refused is not None:
            return refused
        texts = {**self._present(name), "name": name}
        for key, value in sent.items():
            if value is None:
                texts.pop(key, None)
            else:
                texts[key] = _text(key, value)
        if "name" not in texts:
            raise invalid([missing_line("name")])
        return self._put("put", name, texts, who)

    def delete(self, name: str, who: str) -> AdminResponse:
        """`DELETE /connectors/{name}`; its stored offsets stay."""
        refused = self._not_ours(name)
        if refused is not None:
            return refused

        def deleted(_: AskOutcome) -> AdminResponse:
            self._view.refresh()
            self._secrets().sweep(name, {})
            return DONE

        return self._changed(
            lambda: told(
                lambda: self._commands.ask("delete", name, who=who),
                deleted,
                unknown=f"Connector {name} not found",
            )
        )

    # --- inside -------------------------------------------------------------------

    def _changed(self, change: Callable[[], AdminResponse]) -> AdminResponse:
        """One change at a time; what is refused has changed nothing."""
        with self._one:
            try:
                return change()
            except Invalid as problem:
                return refusal(400, str(problem))
            except OSError as failure:
                where = self._served.directory
                return refusal(
                    500, f"Nothing can be kept in {where}: {failure.strerror}"
                )

    def _not_ours(self, name: str) -> AdminResponse | None:
        """The refusal to change what is not ours, or None."""
        card = connect.card_of(self._view, name)
        if card is None:
            return connect.missing(name)
        if not card.managed:
            return refusal(
                409,
                f"Connector {name} stands in {card.file}, a file of the command line: "
                "it is changed there, and taken up by a reload",
            )
        return None

    def _put(
        self,
        verb: str,
        name: str,
        texts: dict[str, str],
        who: str,
        *,
        state: str = "RUNNING",
    ) -> AdminResponse:
        card = connect.card_of(self._view, name)
        if card is not None and verb == "create":
            return refusal(409, f"Connector {name} already exists")
        if card is not None and not card.managed:
            return self._not_ours(name) or connect.missing(name)
        directory = self._served.directory
        if directory is None:
            return refusal(409, f"{_NO_DIRECTORY}.")
        if "name" in texts and texts["name"].strip() != name:
            raise Invalid(
                f"Connector name configuration ({texts['name']}) doesn't match "
                f"connector name in the URL ({name})"
            )
        texts = {**texts, "name": name}
        class_of(name, texts)
        if card is not None:
            texts = self._unmasked(name, texts, card.config)
        self._view.refresh()
        secrets = self._secrets()
        kept, made = secrets.referred(name, texts)
        try:
            try:
                self._served.check(name, kept)
            except ConfigError as failure:
                raise invalid(lines(failure.findings)) from failure
            return self._asked(verb, name, kept, who, state)
        except BaseException:
            secrets.forget(made)
            raise

    def _asked(
        self,
        verb: str,
        name: str,
        texts: Mapping[str, str],
        who: str,
        state: str,
    ) -> AdminResponse:
        directory = self._served.directory
        assert directory is not None
        draft = f".{quote(name, safe='')}.{os.getpid()}-{next(self._drafts)}.draft"
        write(directory / draft, texts)

        def answered(done: AskOutcome) -> AdminResponse:
            self._view.refresh()
            self._secrets().sweep(name, texts)
            tasks = [] if done.created else connect.tasks_of(self._view, name)
            card = connect.card_of(self._view, name)
            if card is None:
                return refusal(500, f"Connector {name} is gone again")
            answer = json_answer(
                201 if done.created else 200, connect.info_of(card, tasks)
            )
            if not done.created:
                return answer
            where = f"/connectors/{quote(name)}"
            return AdminResponse(201, answer.body, headers=(("Location", where),))

        answer = told(
            lambda: self._commands.ask(verb, name, draft=draft, state=state, who=who),
            answered,
        )
        if answer.status >= 400:
            (directory / draft).unlink(missing_ok=True)
            self._secrets().sweep(name, self._present(name))
        return answer

    def _located(self, answer: AdminResponse, request: AdminRequest) -> AdminResponse:
        """Location as Connect has it: whole, by the name that we were asked by."""
        host = request.headers.get("host") or self._view.worker_id
        headers = tuple(
            (name, f"http://{host}{value}" if name == "Location" else value)
            for name, value in answer.headers
        )
        return msgspec.structs.replace(answer, headers=headers)

    def _present(self, name: str) -> dict[str, str]:
        try:
            return self._served.texts(name)
        except KeyError:
            return {}

    def _secrets(self) -> Secrets:
        assert self._served.directory is not None
        return Secrets(self._served.directory)

    def _unmasked(
        self, name: str, texts: dict[str, str], shown: Mapping[str, str]
    ) -> dict[str, str]:
        """A secret that comes back as it was shown is meant to stay as it is."""
        present = self._present(name)
        return {
            key: present[key]
            if key in present and shown.get(key) == text != present[key]
            else text
            for key, text in texts.items()
        }


def write(path: Path, texts: Mapping[str, str]) -> None:
    """
    A connector's file, whole on the disk, for nobody but its owner.

    Raises: OSError.
    """
    content = json.dumps(dict(texts), indent=2, ensure_ascii=False).encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def class_of(name: str, texts: Mapping[str, str]) -> str:
    """
    The connector's class, as it is written.

    Raises: Invalid: there is none, or none of ours.
    """
    word = texts.get("connector.class", "")
    if not word:
        told = f"name={name}" if name else ""
        raise Invalid(f"Connector config {{{told}}} contains no connector type")
    if plugins.connector_class(word) is None:
        every = ", ".join(sorted(n for n in plugins.names() if "." in n))
        raise Invalid(
            "Failed to find any class that implements Connector and which name matches "
            f"{word[:200]}, available connectors are: {every}"
        )
    return word


def missing_line(key: str) -> str:
    """Connect's words for a key that is needed."""
    return f'Missing required configuration "{key}" which has no default value.'


def _name(value: object) -> str:
    """
    Raises: Invalid.
    """
    if value is None or isinstance(value, dict | list):
        raise invalid([missing_line("name")])
    name = _text("name", value).strip()
    if not name:
        raise invalid(
            ["Invalid value  for configuration name: String may not be empty"]
        )
    control = [str(ord(one)) for one in name if ord(one) < 32 or ord(one) == 127]
    if control:
        told = (
            f"Invalid value {name} for configuration name: String may not contain "
            f"control sequences but had the following ASCII chars: {', '.join(control)}"
        )
        raise invalid([told])
    if len(name) > LONGEST_NAME or "/" in name or name.startswith("."):
        told = (
            f"Invalid value {name[:LONGEST_NAME]} for configuration name: at most "
            f"{LONGEST_NAME} characters, no slash and no dot at the start: it names files"
        )
        raise invalid([told])
    return name


def texts_of(config: Mapping[str, Any]) -> dict[str, str]:
    """
    A configuration as it is kept.

    Raises: Invalid; Malformed.
    """
    return {key: _text(key, value) for key, value in config.items()}


def _text(key: str, value: object) -> str:
    """
    A value as text; numbers and booleans are taken as Connect takes them.

    Raises: Invalid; Malformed.
    """
    if value is None:
        raise invalid(["Null value can not be supplied as the configuration value."])
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise Malformed(f"the value of {key[:80]} is no text, number or boolean")
    return msgspec.json.encode(value).decode()
