"""
Check: what a configuration says, before anything is run.

Owns the output of `check`, `explain` and `config show`, and the one way every
verb reads its files.  Calls nobody unless `--connect` asks for it, and changes
nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import msgspec

from engine import config
from engine.cli.output import telling
from engine.config import Api, Connector, Finding, Loaded, keys
from engine.config.keys.pages import page_of
from engine.config.memory import memory
from engine.config.sections.delivery import TransactionsConfig
from engine.config.sections.engine import ScheduleConfig
from engine.config.sections.key import Key
from engine.config.sections.observing import AdminConfig
from engine.config.show import show as text_of_all
from engine.errors import ConfigError, EngineError, Exit
from engine.observe.redact import redact


def load(args: argparse.Namespace, *, quiet: bool = False) -> Loaded:
    """
    Read the files of a command line; warnings and notices go to stderr.

    Raises: ConfigError with every error at once; under `--strict` warnings
    are errors.
    """
    loaded = config.load(args.files, args.overrides, stdin=sys.stdin.buffer)
    return told(loaded, strict=args.strict, quiet=quiet)


def told(loaded: Loaded, *, strict: bool, quiet: bool = False) -> Loaded:
    """
    What was loaded, once its warnings and notices are said.

    Raises: ConfigError under `strict`, where a warning is an error.
    """
    if not quiet:
        for finding in loaded.findings:
            print(f"{finding.severity}: {finding}", file=sys.stderr)
    warnings = [f for f in loaded.findings if f.severity == "warning"]
    if strict and warnings:
        raise ConfigError(warnings if quiet else "--strict: a warning is an error")
    return loaded


def check(args: argparse.Namespace) -> int:
    """`check FILE...`: all findings, then 0, 78 (66, 77 for a file), or 69."""
    findings: list[Finding] = []
    code = Exit.OK
    loaded = None
    try:
        loaded = config.load(args.files, args.overrides, stdin=sys.stdin.buffer)
        findings.extend(loaded.findings)
    except ConfigError as failure:
        findings.extend([*failure.findings, *failure.beside])
        code = failure.code
    if loaded is not None:
        findings, refused = as_run_sees(loaded, findings)
        if refused:
            code = Exit.CONFIG
    if args.strict and any(f.severity == "warning" for f in findings):
        code = Exit.CONFIG
    if loaded is not None and args.connect:
        unreached, asked = connect(loaded)
        findings.extend(asked)
        worst = {each.severity for each in asked}
        if "error" in worst and code is Exit.OK:
            code = Exit.UNAVAILABLE if unreached else Exit.CONFIG
        elif "warning" in worst and args.strict and code is Exit.OK:
            code = Exit.CONFIG
    with telling(code):
        print_findings(args, findings, loaded, code)
    return code


def as_run_sees(
    loaded: Loaded, findings: Sequence[Finding]
) -> tuple[list[Finding], bool]:
    """
    The findings with what `run` would refuse among them as errors.

    Returns: them, and True if there is one.
    """
    unbuilt = set(loaded.unbuilt)
    told = [
        msgspec.structs.replace(f, severity="error") if f in unbuilt else f
        for f in findings
    ]
    rehearsal = importlib.import_module("engine.task.rehearsal")
    zone = loaded.process.of(ScheduleConfig).timezone
    refused = bool(unbuilt)
    for connector in loaded.connectors:
        for api, key, text in rehearsal.refusals(connector, zone):
            refused = True
            told.append(finding("error", connector, api, key, text))
    return told, refused


def finding(
    severity: str, connector: Connector, api: Api | None, key: str, text: str
) -> Finding:
    """Something to say of a key, at the place where it is stated."""
    values = connector.values if api is None else api.values
    file, line = values.origin(key) or ("", 0)
    return Finding(severity, file, line, key, None, redact(text))


def print_findings(
    args: argparse.Namespace,
    findings: Sequence[Finding],
    loaded: Loaded | None,
    code: int,
) -> None:
    """All that was found, as text or as one document."""
    if args.json:
        document = {"findings": findings}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
        return
    for each in findings:
        out = sys.stderr if each.severity == "error" else sys.stdout
        print(f"{each.severity}: {each}", file=out)
    if wrong := [each for each in findings if each.severity == "error"]:
        pages = dict.fromkeys(page_of(key_of(each.key)) for each in wrong)
        print(f"see {', '.join(pages)}; `explain KEY` says more", file=sys.stderr)
    if loaded is not None:
        print_memory(loaded)
        if code == Exit.OK:
            print(f"{count(loaded)}: no errors")


def key_of(name: str) -> Key | None:
    """The key of a finding, None where it is about no key of ours."""
    return keys.find(keys.split_api(name)[1])


def print_memory(loaded: Loaded) -> None:
    """The memory each connector is expected to take, and its bound."""
    admin = loaded.process.of(AdminConfig).listeners != ("none",)
    for connector in loaded.connectors:
        expected, bound = memory(connector, admin=admin)
        print(
            f"{connector.name}: memory expected {expected.total / 2**20:,.0f} MiB, "
            f"bound {bound.total / 2**20:,.0f} MiB"
        )


def count(loaded: Loaded) -> str:
    """How much was checked."""
    apis = sum(len(connector.apis) for connector in loaded.connectors)
    connectors = len(loaded.connectors)
    return f"{connectors} connector{'s' * (connectors != 1)}, {apis} api{'s' * (apis != 1)}"


def connect(loaded: Loaded) -> tuple[bool, Sequence[Finding]]:
    """
    Call each API and broker once, and look for the topics.

    Returns: True if somebody gave no answer; a finding for each that gave none, and
    for each topic that is not there or does not stay small.
    """
    probe = importlib.import_module("engine.task.probe")
    found = []
    unreached = False
    zone = loaded.process.of(ScheduleConfig).timezone

    def note(
        severity: str, connector: Connector, api: Api | None, key: str, text: str
    ) -> None:
        found.append(finding(severity, connector, api, key, text))

    for connector in loaded.connectors:
        away = False
        for api, key, question in probe.questions(connector, zone):
            try:
                question()
            except EngineError as failure:
                unreached = True
                away = away or api is None
                note("error", connector, api, key, str(failure))
        if away:
            # Whoever cannot be reached is not asked for more.
            continue
        try:
            if text := probe.state_topic(connector):
                note("warning", connector, None, "offsets.storage.topic", text)
        except EngineError as failure:
            note("error", connector, None, "offsets.storage.topic", str(failure))
        key = "exactly.once.support"
        support = connector.values.of(TransactionsConfig).support
        if support != "disabled":
            try:
                probe.transactions(connector)
            except EngineError as failure:
                text = str(failure)
                if support == "requested":
                    text = f"delivery would be at least once: {text}"
                severity = "error" if support == "required" else "warning"
                # What nobody asked for is no reason for `--strict` to refuse.
                if not connector.values.stated(key):
                    severity = "notice"
                note(severity, connector, None, key, text)
        try:
            for api, key, topic, why in probe.topics(connector):
                text = f"topic {topic} is not there"
                if why:
                    note(
                        "error", connector, api, key, f"{text}, and not created: {why}"
                    )
                else:
                    note("notice", connector, api, key, f"{text}: `run` creates it")
            for of, key, severity, text in probe.outlived(connector):
                note(severity, connector, of, key, text)
        except EngineError as failure:
            note("error", connector, None, "kafka.topic", str(failure))
    return unreached, found


def explain(args: argparse.Namespace) -> int:
    """`explain KEY`: its meaning; 64 for a key nobody knows."""
    meaning = importlib.import_module("engine.config.explain")
    found = meaning.known(args.key)
    print(meaning.explain(args.key), file=sys.stdout if found else sys.stderr)
    return Exit.OK if found else Exit.USAGE


def show(args: argparse.Namespace) -> int:
    """`config show FILE...`: what was read, secrets never resolved."""
    loaded = load(args)
    print(text_of_all(loaded, resolved=args.resolved), end="")
    return Exit.OK
