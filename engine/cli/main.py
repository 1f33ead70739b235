"""
Main: the words of the command line and what each of them starts.

Owns verbs, flags, help and the translation of our errors into exit codes;
imports nothing heavy: a verb's module is loaded only when it is asked for,
so that `--help` answers at once.  It is long as a table is: verbs with their flags.

Path: the shell -> here -> one module of this room.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from engine import __version__
from engine.cli.output import OutputLost, lost, telling
from engine.cli.terminal import guarded
from engine.errors import EngineError, Exit

PROGRAM = "kafka-http-source"

SHORT_HELP = f"""\
{PROGRAM} gets records out of HTTP APIs into Kafka.

  {PROGRAM} dev                                 see it work: sample API, embedded broker
  {PROGRAM} examples DIR                        profiles and manual, laid out in DIR
  {PROGRAM} run FILE                            run a connector until Ctrl-C

  {PROGRAM} --help lists all commands.
"""

EPILOG = f"""\
examples:
  {PROGRAM} check FILE                          every finding at once, with file:line
  {PROGRAM} preview FILE --records 3            what would be produced; writes nothing
  {PROGRAM} run --once --json FILE              poll each api once, totals as JSON
  {PROGRAM} explain pagination.type             what a key means

exit codes: 0 done; 64 usage; 65 data; 66 file missing; 69 API or broker not
reached; 70 a bug; 74 a file that cannot be written; 75 try again; 77 permission;
78 configuration.
"""


class CommandParser(argparse.ArgumentParser):
    """A parser whose complaint about wrong use ends with 64, not 2."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(int(Exit.USAGE))


def positive(text: str) -> int:
    """An argument that is a whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def natural(text: str) -> int:
    """An argument that is a whole number from 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def fraction(text: str) -> float:
    """An argument above 0 and at most 1."""
    value = number(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 1")
    return value


def number(text: str) -> float:
    """An argument that is a number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


def parser(only: str = "") -> CommandParser:
    """
    All verbs and flags; also what completion and the manual are made from.

    Args:
        only: The verb that is given: of `run` the others are left out, which take
            longer to describe than a configuration to be read.
    """
    top = CommandParser(
        prog=PROGRAM,
        description="Get records out of HTTP APIs into Kafka.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    common = CommandParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", help="show a traceback with an error"
    )
    files = CommandParser(add_help=False, parents=[common])
    files.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help=".properties or .json; several overlay left to right; - reads stdin",
    )
    files.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="lies over all files; may be repeated",
    )
    files.add_argument(
        "--strict", action="store_true", help="a warning is an error (exit 78)"
    )

    verbs = top.add_subparsers(title="commands", metavar="COMMAND")

    def verb(name: str, target: str, text: str, parent: CommandParser) -> CommandParser:
        made = verbs.add_parser(name, help=text, description=text, parents=[parent])
        made.set_defaults(target=target)
        return made

    run = verb("run", "run:run", "run connectors until SIGTERM or Ctrl-C", files)
    # With --connectors there may be none.
    next(a for a in run._actions if a.dest == "files").nargs = "*"
    run.add_argument(
        "--connectors",
        metavar="DIR",
        help="also run each connector of this directory, and keep there what REST makes",
    )
    run.add_argument("--once", action="store_true", help="poll each api once, then end")
    run.add_argument(
        "--json", action="store_true", help="with --once: the totals as one document"
    )
    run.add_argument(
        "--quiet", "-q", action="store_true", help="no progress, no summary"
    )
    if only == "run":
        return top

    check = verb("check", "check:check", "find every mistake in a configuration", files)
    check.add_argument("--json", action="store_true", help="findings as one document")
    check.add_argument(
        "--connect", action="store_true", help="also call the API and the broker"
    )

    preview = verb(
        "preview", "preview:preview", "show the first records; write nothing", files
    )
    preview.add_argument("--records", "-n", type=positive, default=10, metavar="N")
    preview.add_argument("--api", metavar="NAME", help="only this api")
    preview.add_argument(
        "--diff", action="store_true", help="each record before and after its rules"
    )

    explain = verb("explain", "check:explain", "what a configuration key means", common)
    explain.add_argument("key", metavar="KEY")

    config = verbs.add_parser("config", help="show a configuration as it is read")
    shown = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = shown.add_parser("show", help="print it, secrets masked", parents=[files])
    show.add_argument(
        "--resolved", action="store_true", help="every key with file and line"
    )
    show.set_defaults(target="check:show")

    text = "fetch a piece of the past beside the engine, at a share of its rate"
    past = verb("backfill", "backfill:backfill", text, files)
    past.add_argument(
        "--from",
        dest="since",
        metavar="TIME",
        required=True,
        help="2024-01-31 or ISO 8601",
    )
    past.add_argument("--to", metavar="TIME", required=True, help="not included")
    past.add_argument(
        "--share", type=fraction, default=0.3, metavar="PART", help="of the rate; 0.3"
    )
    past.add_argument(
        "--connector", metavar="NAME", help="where the files have several"
    )
    past.add_argument("--api", metavar="NAME", help="only this api")
    past.add_argument(
        "--restart", action="store_true", help="forget how far it had come"
    )
    past.add_argument("--json", action="store_true", help="the totals as one document")
    past.add_argument("--quiet", "-q", action="store_true", help="no progress")

    offsets = verbs.add_parser("offsets", help="where each shard stands")
    places = offsets.add_subparsers(title="commands", metavar="COMMAND", required=True)
    below = "only the child of this value of its parent"
    get = places.add_parser("get", help="stored offsets, next request", parents=[files])
    get.add_argument("--api", metavar="NAME", help="only this api")
    get.add_argument("--parent", metavar="VALUE", help=below)
    get.add_argument("--json", action="store_true")
    get.set_defaults(target="offsets:get")
    reset = places.add_parser("reset", help="forget stored offsets", parents=[files])
    reset.add_argument("--api", metavar="NAME", help="only this api")
    reset.add_argument("--parent", metavar="VALUE", help=below)
    reset.add_argument("--yes", action="store_true", help="do it without asking")
    reset.set_defaults(target="offsets:reset")
    text = "what each stored offset means, and what a reset would cost"
    words = places.add_parser("explain", help=text, description=text, parents=[files])
    words.add_argument("--api", metavar="NAME", help="only this api")
    words.add_argument("--parent", metavar="VALUE", help=below)
    words.add_argument("--json", action="store_true", help="one document")
    words.set_defaults(target="offsetwords:explain")
    text = "let one shard go on from another position"
    put = places.add_parser("set", help=text, description=text, parents=[files])
    put.add_argument("--connector", metavar="NAME", help="where the files have several")
    put.add_argument("--api", metavar="NAME", help="where there are several")
    put.add_argument("--entity", metavar="NAME", help="one of entity.names")
    put.add_argument("--shard", metavar="I/N", help="one of several shards, as 0/4")
    put.add_argument("--parent", metavar="VALUE", help="of a child: its parent's value")
    put.add_argument(
        "--position",
        metavar="JSON",
        required=True,
        help="fields as `offsets get` shows them",
    )
    put.set_defaults(target="offsetfile:set_")
    text = "a JSON line for all that is stored"
    out = places.add_parser("export", help=text, description=text, parents=[files])
    out.add_argument("--api", metavar="NAME", help="only this api")
    out.add_argument("--parent", metavar="VALUE", help=below)
    out.add_argument("--output", metavar="OUT", help="default: stdout")
    out.set_defaults(target="offsetfile:export")
    text = "offsets become those of a file; refused while the connector runs"
    taken = places.add_parser("import", help=text, description=text, parents=[files])
    taken.add_argument(
        "--from",
        dest="source",
        metavar="LINES",
        required=True,
        help="of `offsets export`",
    )
    taken.add_argument("--yes", action="store_true", help="do it")
    taken.set_defaults(target="offsetfile:import_")

    cache = verbs.add_parser("cache", help="what is kept of the API's answers")
    kept = cache.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, target, text in (
        ("stats", "cache:stats", "how full each tier is, and what it answered"),
        ("list", "cache:list_", "a line for each answer that is kept"),
        ("clear", "cache:clear", "forget all of it; a running engine goes on"),
    ):
        look = kept.add_parser(name, help=text, description=text, parents=[files])
        if name != "clear":
            look.add_argument("--json", action="store_true", help="one document")
        if name == "list":
            look.add_argument(
                "--limit", type=positive, metavar="N", help="at most so many"
            )
        look.set_defaults(target=target)

    dlq = verbs.add_parser("dlq", help="dead letters: look at them, try them again")
    letters = dlq.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, target, text in (
        ("list", "dlq:list_", "a line for each letter that has not gone through"),
        ("show", "dlq:show", "letters with their headers and bytes"),
    ):
        look = letters.add_parser(name, help=text, description=text, parents=[files])
        look.add_argument("--json", action="store_true", help="one document")
        look.add_argument("--api", metavar="NAME", help="only this api's")
        look.add_argument("--letter", metavar="P:OFFSET", help="only this one")
        look.add_argument("--limit", type=positive, metavar="N", help="at most so many")
        look.add_argument(
            "--all", action="store_true", help="also those that went through"
        )
        look.set_defaults(target=target)
    text = "put letters through again, after a fix; 65 if some still fail"
    again = letters.add_parser("replay", help=text, description=text, parents=[files])
    again.add_argument("--json", action="store_true", help="one document")
    again.set_defaults(target="dlq:replay")

    asking = CommandParser(add_help=False, parents=[common])
    asking.add_argument(
        "--url",
        metavar="URL",
        help="of the engine; default: the one that runs here, else port 8080",
    )
    asking.add_argument("--json", action="store_true", help="one document")
    text = "how a running engine stands; 65 if something has FAILED"
    verb("status", "status:status", text, asking)
    tops = verb("top", "top:top", "its tasks, refreshed in place", asking)
    tops.add_argument("--interval", type=positive, default=2, metavar="SECONDS")
    tops.add_argument(
        "--sort", metavar="COLUMN", default="task", help="out/s, p99, cpu, rss ..."
    )
    tops.add_argument(
        "--filter", metavar="PATTERN", default="*", help="tasks to show: orders/*"
    )

    managing = CommandParser(add_help=False, parents=[asking])
    managing.add_argument(
        "--token-file",
        metavar="FILE",
        help="holds the engine's admin.token; default: $KAFKA_HTTP_SOURCE_TOKEN",
    )
    connectors = verbs.add_parser(
        "connectors", help="connectors of a running engine: list, create, pause ..."
    )
    what = connectors.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def manage(
        word: str, text: str, *, target: str = "", named: bool = True
    ) -> CommandParser:
        made = what.add_parser(word, help=text, description=text, parents=[managing])
        made.set_defaults(target=f"connectors:{target or word}")
        if named:
            made.add_argument("name", metavar="NAME")
        return made

    manage("list", "each with its state", target="list_", named=False)
    manage("show", "its configuration, its state and its tasks'")
    creating = manage("create", "a new one from a file", named=False)
    creating.add_argument("file", metavar="FILE", help=".properties or .json")
    creating.add_argument("--name", metavar="NAME", help="default: as the file says")
    creating.add_argument(
        "--state", choices=("RUNNING", "PAUSED", "STOPPED"), help="to begin with"
    )
    manage("pause", "its tasks begin nothing more and keep their connections")
    manage("resume", "from PAUSED or STOPPED; what has FAILED is tried again")
    manage("stop", "its tasks finish their page and end")
    restarting = manage("restart", "its tasks start anew")
    restarting.add_argument("--task", type=natural, metavar="N", help="only this one")
    restarting.add_argument(
        "--failed", action="store_true", help="only those that have failed"
    )
    manage("delete", "for good; its stored offsets stay")

    text = "lay out profiles, units, dashboards, scripts and the manual"
    laid = verb("examples", "examples:examples", text, common)
    laid.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        default="kafka-http-source-examples",
        help="default: %(default)s",
    )

    plan = verb(
        "plan", "plan:plan", "reckon load and size from a few live pages", files
    )
    plan.add_argument(
        "--pages",
        type=positive,
        default=5,
        metavar="N",
        help="asked of each api; default: 5",
    )
    plan.add_argument(
        "--quota", type=positive, metavar="CALLS", help="allowed a day, all apis"
    )
    plan.add_argument("--json", action="store_true", help="one document")

    bench = verb(
        "bench",
        "bench.command:bench",
        "how fast a configuration goes, and its cost",
        files,
    )
    bench.add_argument(
        "--seconds", type=number, default=10, metavar="S", help="measured; default: 10"
    )
    bench.add_argument(
        "--warm-up",
        type=number,
        default=3,
        metavar="S",
        help="before that, behind the first record; default: 3",
    )
    bench.add_argument(
        "--record",
        metavar="OUT",
        help="first call the API for a few pages, keep their records in a file",
    )
    bench.add_argument(
        "--pages",
        type=positive,
        default=3,
        metavar="N",
        help="that --record keeps of each api; default: 3",
    )
    bench.add_argument(
        "--recording", metavar="FILE", help="records kept by --record, not made up"
    )
    bench.add_argument(
        "--latency", type=number, default=0, metavar="MS", help="before each answer"
    )
    bench.add_argument(
        "--paced",
        action="store_true",
        help="keep to schedule and rate limit, instead of as fast as it goes",
    )
    bench.add_argument(
        "--bootstrap",
        metavar="HOST:PORT",
        help="write to this trial broker; default: an embedded one",
    )
    bench.add_argument("--json", action="store_true", help="one document")

    dev = verb("dev", "dev:dev", "show it working: sample API, embedded broker", common)
    dev.add_argument("--records", type=positive, default=200_000, metavar="N")
    dev.add_argument("--tasks", type=positive, default=4, metavar="N")
    dev.add_argument(
        "--kafka",
        metavar="HOST:PORT",
        help="a Kafka of your own in the embedded broker's place; its topic stays",
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command, and end with its exit code.

    Returns: its exit code (`engine.errors.Exit`).
    """
    with guarded():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words:
            with telling(Exit.OK):
                print(SHORT_HELP, end="")
            return Exit.OK
        args = parsed(words)
    except OutputLost as failure:
        code, why = lost(failure)
        return told(why, Exit(code), False) if why else code
    if isinstance(args, int):
        return args
    if not hasattr(args, "target"):
        print(SHORT_HELP, end="", file=sys.stderr)
        return Exit.USAGE
    module, function = args.target.split(":")
    try:
        command: Callable[[argparse.Namespace], int] = getattr(
            importlib.import_module(f"engine.cli.{module}"), function
        )
        if command.__name__ != "run":
            gc.enable()
            interruptible()
        code = int(command(args))
        with telling(code):
            pass
        return code
    except OutputLost as failure:
        code, why = lost(failure)
        return told(why, Exit(code), args.debug) if why else code
    except EngineError as failure:
        return told(failure, failure.code, args.debug)
    except FileNotFoundError as failure:
        return told(failure, Exit.NO_INPUT, args.debug)
    except PermissionError as failure:
        return told(failure, Exit.PERMISSION, args.debug)
    except KeyboardInterrupt:
        return Exit.OK
    except Exception as failure:  # noqa: BLE001 - the last wall before the shell
        hint = "" if args.debug else " (a bug; --debug shows where)"
        return told(f"{type(failure).__name__}: {failure}{hint}", Exit.BUG, args.debug)


def parsed(words: Sequence[str]) -> argparse.Namespace | int:
    """The arguments, or the exit code where they say all, as `--help` does."""
    try:
        return parser(words[0]).parse_args(words)
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else Exit.USAGE
        with telling(code):
            pass
        return code


def interruptible() -> None:
    """A signal ends a command as it ends any program; `run` has its own way."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def told(failure: object, code: Exit, debug: bool) -> int:
    """Say what went wrong on stderr; returns the code."""
    if debug:
        traceback.print_exc()
    print(f"{PROGRAM}: {failure}", file=sys.stderr)
    return code
