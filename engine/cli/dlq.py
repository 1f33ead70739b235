"""
Dlq: dead letters on the command line: look at them, try them again.

Owns the output of `dlq list`, `dlq show` and `dlq replay`.  Looking changes
nothing; a replay excludes another of the same connector, and may run beside
the engine.

Path: ``cli.main`` -> here -> ``sink.deadletter``, ``task.replay``
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import msgspec

from engine.cli.check import load
from engine.cli.offsets import OpenedState, claim_of
from engine.cli.preview import json_or_text
from engine.cli.wanted import refuse_unbuilt
from engine.config import Connector, Loaded
from engine.config.sections.engine import ScheduleConfig
from engine.config.sections.letters import DeadLetterQueueConfig
from engine.errors import ConfigError, Exit
from engine.observe.printable import printable_line
from engine.sink.deadletter import Letter, UnansweredLetters
from engine.task.build.kafka import KafkaBuilder, bootstrap_of
from engine.task.build.registry import Registries
from engine.task.replay import Replay

#: The key without which there is nothing to look at.
TOPIC = "errors.deadletterqueue.topic.name"

#: Characters of a message in a line of `dlq list`.
SHOWN = 160


def boxes(
    loaded: Loaded, opened: OpenedState
) -> Iterator[tuple[Connector, KafkaBuilder, UnansweredLetters]]:
    """
    The connectors that keep dead letters.

    Raises: ConfigError if none does.
    """
    keeping = [
        c
        for c in loaded.connectors
        if c.values.of(DeadLetterQueueConfig).topic is not None
    ]
    if not keeping:
        raise ConfigError(f"{TOPIC} is not set: no dead letters are kept")
    for connector in keeping:
        bootstrap = bootstrap_of(connector.values, opened.embedded)
        brokers = KafkaBuilder(connector, bootstrap)
        topic = brokers.letters()
        assert topic is not None
        yield (
            connector,
            brokers,
            UnansweredLetters(brokers.admin, topic, connector.name),
        )


def chosen(args: argparse.Namespace, box: UnansweredLetters) -> Iterator[Letter]:
    """The letters that were asked for."""
    found = (
        letter
        for letter in box.letters(gone=args.all)
        if args.api in (None, letter.api) and args.letter in (None, letter.id)
    )
    return islice(found, args.limit)


def list_(args: argparse.Namespace) -> int:
    """`dlq list FILE...`: a line for each letter that has not gone through."""
    return _look(args, whole=False)


def show(args: argparse.Namespace) -> int:
    """`dlq show FILE...`: each letter with its headers and its bytes."""
    return _look(args, whole=True)


def _look(args: argparse.Namespace, *, whole: bool) -> int:
    check(args)
    loaded = load(args, quiet=args.json)
    documents = []
    count = 0
    with OpenedState(loaded) as opened:
        for connector, _, box in boxes(loaded, opened):
            for letter in chosen(args, box):
                count += 1
                if args.json:
                    documents.append(document(connector, box, letter, whole))
                elif whole:
                    print(described(box, letter))
                else:
                    print(line(connector, letter))
    if args.json:
        print_json({"letters": documents})
    elif not count:
        print("no dead letters")
    return Exit.OK


def check(args: argparse.Namespace) -> None:
    """Raises: ConfigError for a letter that is no partition:offset."""
    if args.letter is not None and not re.fullmatch(r"\d+:\d+", args.letter):
        raise ConfigError(f"--letter {args.letter!r} is not partition:offset")


def replay(args: argparse.Namespace) -> int:
    """`dlq replay FILE...`: 0 if every letter went through, 65 if some fail."""
    loaded = load(args, quiet=args.json)
    refuse_unbuilt(loaded)
    failures = []
    gone = left = 0
    with OpenedState(loaded) as opened:
        for connector, brokers, box in boxes(loaded, opened):

            def failed(
                letter: Letter, why: str, connector: Connector = connector
            ) -> None:
                failures.append(
                    {
                        "connector": connector.name,
                        "letter": letter.id,
                        "api": letter.api,
                        "error": why,
                    }
                )
                if not args.json:
                    text = f"{connector.name} {letter.id} {letter.api}: {why}"
                    print(printable_line(text))

            claim = claim_of(loaded, connector, "dlq")
            claim.take()
            try:
                with closing(Registries(connector)) as registries:
                    run = Replay(
                        connector,
                        brokers,
                        box,
                        zone=loaded.process.of(ScheduleConfig).timezone,
                        registries=registries,
                        failed=failed,
                    )
                    try:
                        run.run()
                    except KeyboardInterrupt:
                        return Exit.TRY_AGAIN
                    gone += run.gone
                    left += run.left
            finally:
                claim.release()
    if args.json:
        print_json({"replayed": gone, "left": left, "failed": failures})
    else:
        print(f"{gone} letter{'s' * (gone != 1)} went through, {left} left")
    return Exit.DATA if left else Exit.OK


def line(connector: Connector, letter: Letter) -> str:
    """A letter in one line."""
    where = f"page {letter.number('http.page')}, record {letter.number('http.index')}"
    if not letter.api:
        return f"{connector.name} {letter.id}: without context headers"
    message = letter.message if len(letter.message) <= SHOWN else letter.message[:SHOWN]
    cut = " (cut)" if letter.cut else ""
    text = f"{connector.name} {letter.id} {letter.api}, {where}{cut}: {message}"
    return printable_line(text)


def described(box: UnansweredLetters, letter: Letter) -> str:
    """A letter in full, for people."""
    lines = [f"{box.topic} {letter.id} at {letter.timestamp}"]
    lines += [
        printable_line(f"    {name}: {text}") for name, text in letter.context.items()
    ]
    value = None if letter.value is None else json_or_text(letter.value)
    return "\n".join([*lines, f"    {msgspec.json.encode(value).decode()}"])


def document(
    connector: Connector, box: UnansweredLetters, letter: Letter, whole: bool
) -> dict[str, object]:
    """A letter for machines; its headers and its bytes where it is shown whole."""
    found: dict[str, object] = {
        "connector": connector.name,
        "topic": box.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp,
        "api": letter.api,
        "page": letter.number("http.page"),
        "index": letter.number("http.index"),
        "stage": letter.stage,
        "error": letter.message,
        "cut": letter.cut,
        "bytes": len(letter.value or b""),
    }
    if whole:
        found["headers"] = letter.context
        found["value"] = None if letter.value is None else json_or_text(letter.value)
    return found


def print_json(found: object) -> None:
    """One document."""
    encoded = msgspec.json.encode(found)
    try:
        encoded = msgspec.json.format(encoded)
    except RecursionError:
        # A value that is nested as deep as it may be, one level deeper.
        pass
    print(encoded.decode())
