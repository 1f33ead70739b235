"""
What does a record with rules cost from HTTP into Kafka, against the same loop by hand?

    python -m perf.bench_rules [--pages 1500] [--runs 3] [--plain-pages 100]
    python -m perf.bench_rules --only twelve,avro

Cursor paging from nginx, 500 records of about 300 bytes a page, Apache Kafka,
acks=all, idempotent, one task, the engine's defaults.  Three sets of rules: three
fields; twelve fields with types, one filter and one enrichment; the same to
Avro.  The loop by hand is requests, msgspec to dicts, the same rules in
Python, msgspec (or fastavro) and confluent-kafka; the plain loop is requests,
json and `KafkaProducer.send`.  All read the same pages, in turn; compared is
what the working process spends between 20 and 90 of 100 records, a record
that arrived.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from perf import rig, serving
from perf.baselines.rules import KEPT, PER_PAGE, RULES, SCHEMA, record
from perf.middle import Contest, engine, loop

KEYS = {
    "mappings": "transformation.field.mappings",
    "filters": "transformation.filter.expressions",
    "enrichment": "transformation.enrichment.rules",
}


class OneSchema(BaseHTTPRequestHandler):
    """A schema registry in which every schema has the id 1."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b'{"id":1,"version":1}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def registry() -> Iterator[str]:
    """Serve it; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneSchema)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def keys(rules: str, registered: str, schema: Path) -> str:
    """The lines of a configuration for a set of rules."""
    lines = [f"{KEYS[each]}={json.dumps(held)}" for each, held in RULES[rules].items()]
    if rules == "avro":
        lines += [
            "value.converter=AvroConverter",
            f"value.converter.schema.registry.url={registered}",
            f"value.schema.file={schema}",
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    question = (__doc__ or "").strip().splitlines()[0]
    words = argparse.ArgumentParser(description=question)
    words.add_argument("--pages", type=int, default=1500)
    words.add_argument("--plain-pages", type=int, default=100)
    words.add_argument("--runs", type=int, default=3)
    words.add_argument("--quick", action="store_true", help="one short run")
    words.add_argument("--only", default="", help="sets of rules, comma separated")
    args = words.parse_args()
    if args.quick:
        args.pages, args.plain_pages, args.runs = 60, 10, 1
    chosen = args.only.split(",") if args.only else list(RULES)
    served = partial(serving.pages, per_page=PER_PAGE, make=record)
    with (
        serving.apache_kafka() as bootstrap,
        served(args.pages) as url,
        served(args.plain_pages) as short,
        registry() as registered,
        tempfile.TemporaryDirectory(prefix="khs-rules-") as folder,
    ):
        schema = Path(folder) / "order.avsc"
        schema.write_text(json.dumps(SCHEMA))
        contest = Contest(bootstrap, 1)
        for turn in range(args.runs):
            for rules in chosen:
                run = partial(contest.run, turn=turn, kept=KEPT[rules])
                ours = engine(keys(rules, registered, schema))
                run(f"engine {rules}", url=url, pages=args.pages, go=ours)
                hand = loop("hand_loop", "--rules", rules)
                run(f"hand_loop {rules}", url=url, pages=args.pages, go=hand)
                if rules != "avro" and not turn:
                    plain = loop("plain_loop", rules)
                    name = f"plain_loop {rules}"
                    run(name, url=short, pages=args.plain_pages, go=plain)
    for rules in chosen:
        for other in ("hand_loop", "plain_loop"):
            contest.compare(f"engine {rules}", f"{other} {rules}")
    notes: dict[str, object] = {
        "records read a run": args.pages * PER_PAGE,
        **contest.notes,
    }
    rig.report(
        "rules", question, list(contest.rows.values()), notes, keep=not args.quick
    )


if __name__ == "__main__":
    main()
