"""
Connectors: the connectors of a running engine, listed and changed from a shell.

Owns `connectors list|show|create|pause|resume|stop|restart|delete`: each is one call of
Connect's REST API, so that what a person may do here a script may do there.

Path: ``cli.main`` -> here -> ``cli.remote`` -> (HTTP) -> ``admin``
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.cli.remote import RemoteRefused, base_url, call
from engine.config.documents import Reader
from engine.config.entries import Findings
from engine.config.load import kind_of
from engine.errors import ConfigError, EngineError, Exit

#: Where a token may stand that is on no command line.
TOKEN = "KAFKA_HTTP_SOURCE_TOKEN"

#: Exit code of a refusal by its status: a configuration, a token, a name, another's
#: change under way.
_CODES = {
    400: Exit.CONFIG,
    401: Exit.PERMISSION,
    403: Exit.PERMISSION,
    404: Exit.DATA,
    409: Exit.TRY_AGAIN,
    413: Exit.CONFIG,
}


class NotDone(EngineError):
    """An engine refuses what it was asked for."""

    def __init__(self, refused: RemoteRefused):
        super().__init__(refused.message)
        self.code = _CODES.get(refused.status, Exit.UNAVAILABLE)  # type: ignore[misc]


def list_(args: argparse.Namespace) -> int:
    """
    `connectors list`: a line for each, its state and those of its tasks.

    Returns: 0.  Raises: NoAnswer, NotDone.
    """
    told = _ask(args, "GET", "/connectors?expand=status")
    if args.json:
        _print(told)
        return Exit.OK
    if not told:
        print("no connector yet; connectors create FILE makes one")
    width = max(map(len, told), default=0)
    for name, each in sorted(told.items()):
        status = each["status"]
        states = [task["state"] for task in status["tasks"]]
        counted = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        print(
            f"{name:<{width}}  {status['connector']['state']:<10}  "
            f"{counted or 'no task'}"
        )
    return Exit.OK


def show(args: argparse.Namespace) -> int:
    """`connectors show NAME`: its configuration and its state."""
    path = f"/connectors/{quote(args.name, safe='')}"
    told = {
        "info": _ask(args, "GET", path),
        "status": _ask(args, "GET", f"{path}/status"),
    }
    if args.json:
        _print(told)
        return Exit.OK
    status = told["status"]
    print(f"{args.name}: {status['connector']['state']}")
    if "trace" in status["connector"]:
        print(f"    {status['connector']['trace']}")
    for task in status["tasks"]:
        print(f"task {task['id']}: {task['state']}")
        if "trace" in task:
            print(f"    {task['trace']}")
    for key, value in told["info"]["config"].items():
        print(f"{key}={value}")
    return Exit.OK


def create(args: argparse.Namespace) -> int:
    """
    `connectors create FILE`: from .properties or .json, as they would be run.

    Raises: ConfigError for a file that is none; NoAnswer, NotDone.
    """
    findings = Findings()
    reader = Reader(kind_of, findings)
    documents = reader.read(args.file, None)
    if findings.errors:
        raise reader.failure(findings.errors)
    if len(documents) != 1:
        raise ConfigError(f"{args.file}: a file of one connector is needed")
    document = documents[0]
    name = args.name or document.name or Path(args.file).stem
    config = {key: entry.text for key, entry in document.entries.items()}
    config["name"] = name
    config.setdefault(
        "connector.class", "io.confluent.connect.http.HttpSourceConnector"
    )
    state = args.state or document.initial_state
    body = {"name": name, "config": config, "initial_state": state}
    told = _ask(args, "POST", "/connectors", body)
    _done(args, told, f"{name} is created as {state}")
    return Exit.OK


def pause(args: argparse.Namespace) -> int:
    """`connectors pause NAME`."""
    return _put(args, "pause", "PAUSED; its connections stay open")


def resume(args: argparse.Namespace) -> int:
    """`connectors resume NAME`."""
    return _put(args, "resume", "RUNNING; what has FAILED is tried again")


def stop(args: argparse.Namespace) -> int:
    """`connectors stop NAME`."""
    return _put(args, "stop", "STOPPED; its tasks finish their page and end")


def restart(args: argparse.Namespace) -> int:
    """`connectors restart NAME [--task N] [--failed]`: its tasks, or some of them."""
    path = f"/connectors/{quote(args.name, safe='')}"
    if args.task is not None:
        told = _ask(args, "POST", f"{path}/tasks/{args.task}/restart")
        _done(args, told, f"task {args.task} of {args.name} starts anew")
        return Exit.OK
    query = f"includeTasks=true&onlyFailed={str(args.failed).lower()}"
    told = _ask(args, "POST", f"{path}/restart?{query}")
    anew = [
        t["id"] for t in (told or {}).get("tasks", ()) if t["state"] == "RESTARTING"
    ]
    words = ", ".join(map(str, anew)) or "none"
    _done(args, told, f"tasks of {args.name} that start anew: {words}")
    return Exit.OK


def delete(args: argparse.Namespace) -> int:
    """`connectors delete NAME`: its stored offsets stay."""
    told = _ask(args, "DELETE", f"/connectors/{quote(args.name, safe='')}")
    _done(args, told, f"{args.name} is deleted; its offsets stay where they are kept")
    return Exit.OK


def _put(args: argparse.Namespace, verb: str, words: str) -> int:
    told = _ask(args, "PUT", f"/connectors/{quote(args.name, safe='')}/{verb}")
    _done(args, told, f"{args.name} is {words}")
    return Exit.OK


def _done(args: argparse.Namespace, told: Any, words: str) -> None:
    if args.json:
        _print(told if told is not None else {"done": words})
    else:
        print(words)


def _print(told: Any) -> None:
    print(json.dumps(told, indent=2, ensure_ascii=False))


def _ask(args: argparse.Namespace, method: str, path: str, body: Any = None) -> Any:
    """
    The JSON of an answer, None where it has no body.

    Raises: NoAnswer, NotDone, ConfigError for a token's file.
    """
    token = os.environ.get(TOKEN, "")
    if args.token_file:
        try:
            token = Path(args.token_file).read_text().strip()
        except OSError as failure:
            raise ConfigError(f"--token-file: {failure}") from failure
    try:
        content = call(base_url(args.url), method, path, body, token=token)
    except RemoteRefused as refused:
        raise NotDone(refused) from refused
    return json.loads(content) if content else None
