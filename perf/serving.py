"""
Serving: the pages and the broker that benchmarks stand on.

Owns nginx over pages that were written once into a folder, Apache Kafka by
`scripts/kafka`, their certificates, ports and topics.  Measures nothing.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import brotli
import trustme
from cryptography.hazmat.primitives import serialization

from perf.rig import ROOT

#: What compresses a body, by the word of Content-Encoding.
PACKING: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": lambda body: gzip.compress(body, 4),
    "br": lambda body: brotli.compress(body, quality=4),
}

#: Pages of different records; a long run has them again and again.
CONTENTS = 50

NGINX = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  default_type application/json;
  open_file_cache max=4000 inactive=600s;
  map $arg_page $numbered {{
    default /p0.json;
    ~(?<last>[0-9])$ /p$last.json;
  }}
  {encoding}
  server {{
    listen 127.0.0.1:{port}{tls};
    root {dir}/pages;
    location = /cursor {{ try_files /p$arg_cursor.json =404; }}
    location = /numbered {{ try_files $numbered =404; }}
    location /list {{ try_files /p$arg_page.json /end.json; }}
  }}
}}
"""

#: Lines of nginx for pages over TLS; the key's files lie beside the pages.
CERTIFICATE = """\
ssl_certificate {dir}/cert.pem;
  ssl_certificate_key {dir}/key.pem;
"""


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def record(number: int, size: int = 290) -> bytes:
    """A record of `size` bytes that looks like an order."""
    head = json.dumps(
        {
            "id": number,
            "key": f"customer-{number % 5000:06d}",
            "created": "2026-01-01T00:00:00.000Z",
            "amount": round((number * 37 % 100_000) / 100, 2),
            "currency": "EUR",
            "paid": number % 3 == 0,
            "address": {"city": "Lyon", "zip": f"{number % 100_000:05d}"},
            "tags": ["a", "b"],
            "note": "",
        },
        separators=(",", ":"),
    )
    fill = max(0, size - len(head))
    return (head[:-2] + "x" * fill + '"}').encode()


def in_memory() -> str | None:
    """A folder in memory where there is one: the disk is not what is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextlib.contextmanager
def pages(
    count: int,
    per_page: int = 500,
    size: int = 290,
    make: Callable[[int, int], bytes] = record,
    *,
    distinct: bool = False,
    packed: str = "",
    authority: trustme.CA | None = None,
) -> Iterator[str]:
    """
    Serve `count` cursor pages at URL/cursor; yields URL.

    Page 0 has no cursor; each page names the next in `next`, the last null.
    Contents come again after `CONTENTS` pages.
    URL/list?page=N has the same pages from 0 on, and an empty one behind them.
    URL/numbered?page=N answers any N with one of the first ten pages.

    Args:
        make: A record of a number and a size, as `record`.
        distinct: No content comes again; a poll by page numbers ends at one that does.
        packed: "gzip" or "br": what answers are compressed by, beforehand.
        authority: Pages are served over TLS, by a certificate of its.
    """
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    folder = Path(tempfile.mkdtemp(prefix="khs-perf-", dir=in_memory()))
    folder.chmod(0o755)
    try:
        (folder / "pages").mkdir()
        pack = PACKING[packed]
        made = [
            b",".join(make(page * per_page + i, size) for i in range(per_page))
            for page in range(count if distinct else min(count, CONTENTS))
        ]
        for page in range(count):
            items = made[page % len(made)]
            following = b"null" if page == count - 1 else b'"%d"' % (page + 1)
            body = b'{"records":[' + items + b'],"next":' + following + b"}"
            names = ["p0.json", "p.json"] if page == 0 else [f"p{page}.json"]
            for name in names:
                (folder / "pages" / name).write_bytes(pack(body))
        end = pack(b'{"records":[],"next":null}')
        (folder / "pages" / "end.json").write_bytes(end)
        port = free_port()
        conf = folder / "nginx.conf"
        user = f"user {os.environ.get('USER', 'root')};\n" if os.getuid() == 0 else ""
        encoding = f"add_header Content-Encoding {packed};" if packed else ""
        if authority is not None:
            certificate(folder, authority)
            encoding += CERTIFICATE.format(dir=folder)
        listening = " ssl" if authority is not None else ""
        conf.write_text(
            user + NGINX.format(dir=folder, port=port, encoding=encoding, tls=listening)
        )
        server = subprocess.Popen(
            [nginx, "-c", str(conf), "-p", str(folder)],
            stderr=subprocess.DEVNULL,
        )
        try:
            await_port(port)
            scheme = "http" if authority is None else "https"
            yield f"{scheme}://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def certificate(folder: Path, authority: trustme.CA) -> None:
    """Write cert.pem and key.pem of 127.0.0.1, and server.pem of both, as Java reads it."""
    issued = authority.issue_cert("127.0.0.1")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    (folder / "cert.pem").write_bytes(chain)
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    (folder / "server.pem").write_bytes(
        chain
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def await_port(port: int, seconds: float = 30) -> None:
    """Block until something listens on the port; TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 1),
        ):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


@contextlib.contextmanager
def apache_kafka(**settings: str) -> Iterator[str]:
    """
    Apache Kafka for this run, or the one KAFKA_BOOTSTRAP names; yields host:port.

    Args:
        settings: Lines of server.properties; `_` in a name stands for a dot.
    """
    if given := os.environ.get("KAFKA_BOOTSTRAP"):
        yield given
        return
    folder = tempfile.mkdtemp(prefix="khs-kafka-", dir=in_memory())
    script = str(ROOT / "scripts" / "kafka")
    lines = [f"{name.replace('_', '.')}={value}" for name, value in settings.items()]
    extra = [word for line in lines for word in ("--set", line)]
    try:
        done = subprocess.run(
            [script, "start", "--dir", folder, *extra],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        yield done.stdout.strip().splitlines()[-1].split()[-1]
    finally:
        subprocess.run([script, "stop", "--dir", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create a topic, by another client than ours."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(30)


def delete_topics(bootstrap: str, *names: str) -> None:
    """Ask for the end of topics, by another client; one that is none is no error."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    for future in admin.delete_topics(list(names)).values():
        with contextlib.suppress(Exception):
            future.result(30)
