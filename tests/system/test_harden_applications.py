"""Real applications in their fences: their own clients get the answers that they get outside, also
to what no exercise asked for."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ringfence.collect.process.inside import in_network
from tests.system.conftest import CACHE, free_port, program
from tests.system.hardening import NGINX, RINGFENCE, Done

pytestmark = pytest.mark.system

Maker = pytest.TempPathFactory


# --- file systems, made once ---------------------------------------------------------------------


def debian(name: str, *packages: str, hook: str = "") -> Path:
    """A Debian root file system with some packages, as an archive in the cache."""
    tar = CACHE / f"{name}.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = CACHE / f"{name}.{os.getpid()}.tar"
        words = [program("mmdebstrap"), "--quiet", "--variant=essential"]
        words += [
            f"--include={','.join(packages)}",
            *([f"--customize-hook={hook}"] if hook else []),
        ]
        subprocess.run([*words, "bookworm", str(part)], check=True)
        part.replace(tar)
    return tar


def installed(name: str, words: Callable[[Path], list[str]]) -> Path:
    """A folder of the cache that an installer fills."""
    folder = CACHE / name
    if not folder.exists():
        part = CACHE / f"{name}.{os.getpid()}"
        part.mkdir(parents=True)
        subprocess.run(words(part), check=True, cwd=part)
        part.replace(folder)
    return folder


def unpacked(tar: Path, maker: Maker) -> Path:
    """An archive's tree, to run the same service outside a fence, too."""
    folder = maker.mktemp(tar.stem)
    folder.chmod(0o755)
    subprocess.run(["tar", "-xf", str(tar), "-C", str(folder)], check=True)
    (folder / "dev/shm").chmod(0o1777)
    return folder


# --- a service, inside and outside ---------------------------------------------------------------


class Application(msgspec.Struct, frozen=True):
    """A tree, its service, and what `ringfence harden` made of it. `user` is whose the service
    is outside, where it does not start as root."""

    tree: Path
    command: tuple[str, ...]
    port: int
    result: Path
    user: str = "root"
    environment: tuple[str, ...] = ()


def hardened(
    maker: Maker, tree: Path, command: tuple[str, ...], port: int, *words: str,
    user: str = "root", environment: tuple[str, ...] = (),
) -> Application:  # fmt: skip
    result = maker.mktemp("harden") / "result"
    variables = [word for name in environment for word in ("--env", name)]
    done = Done(str(tree), "-o", str(result), "--phases", *variables, *words, command=command)
    assert done.code == 0, done.err
    return Application(tree, command, port, result, user, environment)


class Service:
    """A running service: its clients run in its network namespace."""

    def __init__(self, process: subprocess.Popen[bytes], pid: int, tree: Path) -> None:
        self.process = process
        self.pid = pid
        self.tree = tree

    def client(self, *words: str) -> str:
        """All that a client of the service's own tree says."""
        return self.command("chroot", str(self.tree), *words)

    def command(self, *words: str) -> str:
        """All that a command of this host says."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", "--", *words], check=False, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        return done.stdout

    def get(self, port: int, path: str) -> tuple[int, str, bytes]:
        """Status, type and body of a page."""

        def ask() -> tuple[int, str, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            with contextlib.closing(connection):
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.headers["Content-Type"], answer.read()

        return in_network(self.pid, ask)

    def talk(self, port: int, *lines: bytes) -> list[bytes]:
        """What comes back for each of some lines, on one connection."""

        def ask() -> list[bytes]:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
                return [_answer(peer, line) for line in lines]

        return in_network(self.pid, ask)

    def settled(self, port: int, line: bytes, holds: Callable[[bytes], bool]) -> bytes:
        """The first answer to a line, asked again and again, of which something holds."""
        for _ in range(500):
            said = self.talk(port, line)[0]
            if holds(said):
                return said
            time.sleep(0.02)
        raise AssertionError(f"{line!r} is still answered by {said!r}")

    def until_listening(self, port: int) -> None:
        """Wait until it accepts connections."""
        for _ in range(1000):
            assert self.process.poll() is None, "the service ended by itself"
            with contextlib.suppress(OSError):
                self.talk(port)
                return
            time.sleep(0.02)
        raise AssertionError(f"nothing listens on {port}")


_END = re.compile(
    rb"(?:END|STORED|OK|DELETED|TOUCHED|EXISTS|RESET|NOT_FOUND|ERROR.*|BUSY.*|\d+)\r\n$"
)


def _answer(peer: socket.socket, line: bytes) -> bytes:
    """One answer of memcached's text protocol."""
    peer.sendall(line + b"\r\n")
    found = b""
    while not _END.search(found):
        part = peer.recv(1 << 16)
        assert part, (line, found)
        found += part
    return found


@contextlib.contextmanager
def inside(app: Application) -> Iterator[Service]:
    """Inside its fence: it has to end well when told to, and without a refusal."""
    log = app.result.parent / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [RINGFENCE, "run", str(app.result), "-p", f"{free_port()}:{app.port}"],
            stdout=subprocess.DEVNULL, stderr=output,
        )  # fmt: skip
    try:
        service = Service(process, _in_a_network(process), app.tree)
        service.until_listening(app.port)
        yield service
        process.terminate()
        assert process.wait(timeout=30) == 0, log.read_text()
        assert "refused" not in log.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=30)


def _in_a_network(process: subprocess.Popen[bytes]) -> int:
    """The child of `ringfence run` that has a network namespace of its own."""
    own = Path("/proc/self/ns/net").readlink()
    for _ in range(1000):
        assert process.poll() is None, "ringfence run ended by itself"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/ns/net").readlink() != own:
                    return int(child)
        time.sleep(0.02)
    raise AssertionError("no container")


@contextlib.contextmanager
def outside(app: Application) -> Iterator[Service]:
    """As it was before: all of its tree, no filter, no limits; but a network of its own."""
    words = ["unshare", "--net", "--pid", "--ipc", "--fork", "--", "sh", "-c",
             'ip link set lo up && exec "$@"', "sh", "env", "-i", "PATH=/usr/sbin:/usr/bin",
             *app.environment, "chroot", f"--userspec={app.user}:{app.user}",
             str(app.tree), *app.command]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1000):
            if (
                Path(f"/proc/{process.pid}/ns/net").readlink()
                != Path("/proc/self/ns/net").readlink()
            ):
                break
            time.sleep(0.02)
        service = Service(process, process.pid, app.tree)
        service.until_listening(app.port)
        yield service
    finally:
        # The first process of the namespace takes all others with it. `--kill-child` would not do:
        # the signal of a parent's death is forgotten where chroot changes the user (prctl(2)).
        for first in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(first), signal.SIGKILL)
        process.wait(timeout=30)


# --- PostgreSQL ----------------------------------------------------------------------------------

BIN = "/usr/lib/postgresql/15/bin"
DATA = "/var/lib/postgresql/data"
JIT = ("--drop", "/usr/lib/postgresql/15/lib/llvmjit.so",
       "--drop", "/usr/lib/postgresql/15/lib/bitcode")  # fmt: skip
"""A compiler in a database: left out, which PostgreSQL takes for an installation without it."""
PSQL = (f"{BIN}/psql", "-h", "127.0.0.1", "-U", "postgres", "-X", "-q", "-A", "-t", "-c")
READY = (f"{BIN}/pg_isready", "-h", "127.0.0.1")
MADE = "create table t (a int, b text); insert into t values (1, 'x')"
QUERIES = (
    "select a, b from t",
    "select md5('a'), sha256('b'), upper('ä'), 'a' < 'B' collate \"de-x-icu\"",
    "select timestamptz '2024-07-01 12:00+00' at time zone 'Europe/Berlin'",
    "select to_tsvector('english', 'running dogs'), xmlparse(content '<a/>')",
    "set parallel_setup_cost = 0; set parallel_tuple_cost = 0;"
    "set min_parallel_table_scan_size = 0; create table numbers as"
    " select n from generate_series(1, 100000) n; analyze numbers; select sum(n) from numbers",
    "set work_mem = '64kB'; select sum(n) from (select n from numbers order by -n) s",
    "create index concurrently on numbers (n); select n from numbers where n = 77",
    "create extension pgcrypto; select crypt('word', '$1$salt')",
    "create function seven() returns int language plpgsql as 'begin return 7; end';select seven()",
    f"copy (select 5) to '{DATA}/late'; select pg_read_file('late')",
    "set statement_timeout = 50; select pg_sleep(5)",
    "listen door; notify door, 'late'; unlisten *",
    "vacuum full numbers",
    "checkpoint",
    "alter system set work_mem = '5MB'",
    "select pg_reload_conf()",
    "show work_mem",
    "create database other",
    "drop database other",
    "drop table nothing",
)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: Maker) -> Application:
    initdb = f"{BIN}/initdb -D {DATA} -A trust -E UTF8 --locale=C.UTF-8"
    hook = f"chroot \"$1\" su postgres -s /bin/sh -c '{initdb}'"
    tree = unpacked(debian("postgresql-initdb", "postgresql", hook=hook), tmp_path_factory)
    ready = " ".join(("chroot", str(tree), *READY))
    asked = " ".join(("chroot", str(tree), *PSQL))
    exercise = f'until {ready} -q; do sleep 0.1; done; {asked} "{MADE}; {QUERIES[0]}"'
    app = hardened(
        tmp_path_factory, tree, (f"{BIN}/postgres", "-D", DATA), 5432, "--user", "postgres",
        "--exercise", exercise, *JIT, user="postgres",
    )  # fmt: skip
    owned = ("install", "-d", "-o", "postgres", "-g", "postgres", "/run/postgresql")
    subprocess.run(["chroot", str(tree), *owned], check=True)
    return app


def ready(service: Service) -> Service:
    """It listens before it has read its tables."""
    while not service.client(*READY, "-t", "10").endswith("accepting connections\n"):
        assert service.process.poll() is None
    return service


def queries(service: Service) -> list[str]:
    service.client(*PSQL, MADE)
    said = [service.client(*PSQL, query) for query in QUERIES]
    return [re.sub(r"with PID \d+", "with PID", text) for text in said]


def test_postgresql_answers_queries_that_were_not_in_the_exercise(postgres: Application) -> None:
    with outside(postgres) as service:
        expected = dict(zip(QUERIES, queries(ready(service)), strict=True))
    with inside(postgres) as service:
        found = dict(zip(QUERIES, queries(ready(service)), strict=True))
    assert found == expected
    assert found[QUERIES[0]] == "1|x\n"
    assert found[QUERIES[2]] == "2024-07-01 14:00:00\n"
    assert found[QUERIES[4]] == "5000050000\n"
    assert "statement timeout" in found[QUERIES[10]]
    assert found["show work_mem"] == "5MB\n"
    assert "WARNING" not in "".join(found.values())


def test_pgbench_inside_the_fence(postgres: Application) -> None:
    with inside(postgres) as service:
        words = (f"{BIN}/pgbench", "-h", "127.0.0.1", "-U", "postgres")
        made = ready(service).client(*words, "-i", "-q", "postgres")
        said = service.client(*words, "-t", "100", "-c", "8", "-j", "2", "postgres")
        sums = "select sum(abalance) from pgbench_accounts union select sum(bbalance) from" \
               " pgbench_branches union select sum(delta) from pgbench_history"  # fmt: skip
        balances = service.client(*PSQL, sums)
        rows = service.client(*PSQL, "select count(*) from pgbench_history")
        vacuum = service.client(*PSQL, "vacuum full verbose pgbench_accounts")
    assert "done in" in made and "WARNING" not in made
    assert "transactions actually processed: 800/800" in said
    assert "failed transactions: 0 " in said
    assert len(balances.split()) == 1, "accounts, branches and history agree"
    assert rows == "800\n"
    assert "100000 nonremovable row versions" in vacuum and "WARNING" not in vacuum


# --- Python --------------------------------------------------------------------------------------

WEB = '''"""A page, and routes that nobody asks for while it is observed."""

import json
from urllib.parse import parse_qs

from markupsafe import _speedups, escape


def page(query):
    return str(escape(f"<b>{query.get('name', ['nobody'])[0]}</b> {_speedups.__name__}"))


def database(query):
    import sqlite3

    with sqlite3.connect(":memory:") as base:
        base.execute("create table t(a)")
        base.executemany("insert into t values (?)", [(n,) for n in range(10)])
        return json.dumps(base.execute("select sum(a), upper('late') from t").fetchall())


def numbers(query):
    import decimal
    import hashlib

    return f"{decimal.Decimal(1) / 3} {hashlib.sha3_256(b'late').hexdigest()}"


def threads(query):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        return json.dumps(list(pool.map(lambda n: n * n, range(20))))


def loop(query):
    import asyncio

    async def main():
        await asyncio.sleep(0.01)
        return await asyncio.to_thread(lambda: "from a thread")

    return asyncio.run(main())


def zone(query):
    import datetime
    import zoneinfo

    there = zoneinfo.ZoneInfo("Europe/Berlin")
    return datetime.datetime(2024, 7, 1, tzinfo=there).isoformat()


def kind(query):
    import mimetypes

    return mimetypes.guess_type("a.flac")[0]


def message(query):
    from email.mime.text import MIMEText

    return MIMEText("l\\u00e4t", "plain", "utf-8").as_string()


def template(query):
    with open(__file__.replace("app.py", "texts/late.html")) as file:
        return file.read()


ROUTES = {"/": page, **{f"/{route.__name__}": route for route in (
    database, numbers, threads, loop, zone, kind, message, template)}}


def app(environ, start_response):
    route = ROUTES.get(environ["PATH_INFO"])
    if route is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such page\\n"]
    body = route(parse_qs(environ["QUERY_STRING"])).encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [body]
'''
WHEELS = ("gunicorn==23.0.0", "MarkupSafe==3.0.2", "packaging==24.2")
PAGES = ("/?name=late", "/database", "/numbers", "/threads", "/loop", "/zone", "/kind",
         "/message", "/template", "/none")  # fmt: skip


@pytest.fixture(scope="session")
def gunicorn(tmp_path_factory: Maker) -> Application:
    """A virtual environment with a compiled wheel, in a tree with Debian's python3."""
    tree = unpacked(debian("python3-tzdata", "python3", "tzdata"), tmp_path_factory)
    subprocess.run(
        ["chroot", str(tree), "python3", "-m", "venv", "--without-pip", "/opt/web"], check=True
    )
    wheels = installed("wheels-web", lambda folder: [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder),
        "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11",
        "--platform", "manylinux2014_x86_64", *WHEELS])  # fmt: skip
    site = tree / "opt/web/lib/python3.11/site-packages"
    shutil.copytree(wheels, site, dirs_exist_ok=True)
    (tree / "srv/site/texts").mkdir(parents=True)
    (tree / "srv/site/app.py").write_text(WEB)
    (tree / "srv/site/texts/late.html").write_text("<p>late\n")
    command = ("/opt/web/bin/python", "-m", "gunicorn", "--chdir", "/srv/site", "--workers", "2",
               "--bind", "127.0.0.1:8000", "app:app")  # fmt: skip
    return hardened(tmp_path_factory, tree, command, 8000, "--http", "http://localhost:8000/")


def test_a_python_application_serves_what_nobody_asked_for(gunicorn: Application) -> None:
    with outside(gunicorn) as service:
        expected = {page: service.get(8000, page) for page in PAGES}
    with inside(gunicorn) as service:
        found = {page: service.get(8000, page) for page in PAGES}
        service.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        again = {page: service.get(8000, page) for page in PAGES}
    assert found == again == expected
    assert found["/?name=late"][2] == b"&lt;b&gt;late&lt;/b&gt; markupsafe._speedups"
    assert found["/database"][2] == b'[[45, "LATE"]]'
    assert found["/zone"][2] == b"2024-07-01T00:00:00+02:00"
    assert found["/kind"][2] == b"audio/flac"
    assert [found[page][0] for page in PAGES] == [200] * (len(PAGES) - 1) + [404]


# --- Node ----------------------------------------------------------------------------------------

SERVER = """const path = require('path')
const express = require('express')
const app = express()
const say = (response) => (error, body) => response.status(error ? 500 : 200).send(String(body))

app.get('/', (request, response) => response.json({ page: request.query.name || 'nobody' }))
app.use('/static', express.static(path.join(__dirname, 'public')))
app.get('/lazy', (request, response) => response.send(require('./lib/late').text()))
app.get('/module', async (request, response) =>
  response.send((await import('./lib/late.mjs')).text))
app.get('/file', (request, response) =>
  response.sendFile(path.join(__dirname, 'views', 'late.html')))
app.get('/key', (request, response) =>
  require('crypto').scrypt('late', 'salt', 16, (error, key) =>
    say(response)(error, key.toString('hex'))))
app.get('/gzip', (request, response) =>
  require('zlib').gzip('late', (error, body) =>
    say(response)(error, require('zlib').gunzipSync(body))))
app.get('/worker', (request, response) => {
  const { Worker } = require('worker_threads')
  new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true })
    .on('message', (found) => say(response)(null, found)).on('error', say(response))
})
app.get('/zone', (request, response) =>
  response.send(new Date(1720000000000).toLocaleString('de-DE', { timeZone: 'Europe/Berlin' })))
app.listen(3000, '127.0.0.1')
process.on('SIGTERM', () => process.exit(0))
"""
SCRIPTS = {
    "server.js": SERVER,
    "lib/late.js": "exports.text = () => require('../data/words.json').late\n",
    "lib/late.mjs": "export const text = 'module'\n",
    "data/words.json": '{"late": "words"}\n',
    "public/deep/late.css": "p { color: red }\n",
    "views/late.html": "<p>late\n",
}
ROUTES = {
    "/?name=late": b'{"page":"late"}', "/lazy": b"words", "/module": b"module",
    "/static/deep/late.css": b"p { color: red }\n", "/file": b"<p>late\n", "/gzip": b"late",
    "/worker": b"42", "/zone": b"3.7.2024, 11:46:40",
    "/key": hashlib.scrypt(b"late", salt=b"salt", n=16384, r=8, p=1, dklen=16).hex().encode(),
}  # fmt: skip


@pytest.fixture(scope="session")
def express(tmp_path_factory: Maker) -> Application:
    """Express of the npm registry, on Debian's nodejs."""
    tree = unpacked(debian("nodejs", "nodejs"), tmp_path_factory)
    modules = installed("npm-express", lambda _: [
        program("npm"), "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts",
        "express@4.21.2"])  # fmt: skip
    folder = tree / "srv/web"
    shutil.copytree(modules / "node_modules", folder / "node_modules", symlinks=True)
    for name, text in SCRIPTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    command = ("/usr/bin/node", "/srv/web/server.js")
    return hardened(tmp_path_factory, tree, command, 3000, "--http", "http://localhost:3000/")


def test_a_node_application_serves_what_nobody_asked_for(express: Application) -> None:
    with outside(express) as service:
        expected = {page: service.get(3000, page) for page in (*ROUTES, "/none")}
    with inside(express) as service:
        found = {page: service.get(3000, page) for page in (*ROUTES, "/none")}
    assert found == expected
    assert {page: found[page][2] for page in ROUTES} == ROUTES
    assert found["/none"][0] == 404


# --- Apache --------------------------------------------------------------------------------------

ENVIRONMENT = ("APACHE_RUN_USER=www-data", "APACHE_RUN_GROUP=www-data", "APACHE_RUN_DIR=/run",
               "APACHE_LOCK_DIR=/run/lock", "APACHE_LOG_DIR=/var/log/apache2",
               "APACHE_PID_FILE=/run/apache2.pid")  # fmt: skip
FILES = ("/", "/deep/late.css", "/icons/apache_pb2.png", "/icons/small/back.png", "/none",
         "/deep", "/.htaccess")  # fmt: skip


@pytest.fixture(scope="session")
def apache(tmp_path_factory: Maker) -> Application:
    tree = unpacked(debian("apache2", "apache2"), tmp_path_factory)
    (tree / "var/www/html/deep").mkdir()
    (tree / "var/www/html/deep/late.css").write_text("p { color: red }\n")
    return hardened(
        tmp_path_factory, tree, ("apache2", "-D", "FOREGROUND"), 80, "--http",
        "http://localhost/", environment=ENVIRONMENT,
    )  # fmt: skip


def test_apache_serves_files_that_nobody_asked_for_also_after_a_reload(apache: Application) -> None:
    with outside(apache) as service:
        expected = {path: service.get(80, path) for path in FILES}
    with inside(apache) as service:
        found = {path: service.get(80, path) for path in FILES}
        service.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        again = {path: service.get(80, path) for path in FILES}
    assert found == again == expected
    assert found["/deep/late.css"] == (200, "text/css", b"p { color: red }\n")
    assert found["/icons/apache_pb2.png"][2].startswith(b"\x89PNG")
    assert [found[path][0] for path in FILES] == [200, 200, 200, 200, 404, 301, 403]


def test_apachebench_inside_the_fence(apache: Application) -> None:
    with inside(apache) as service:
        length = len(service.get(80, "/")[2])
        said = service.command(program("ab"), "-q", "-n", "2000", "-c", "50", "http://127.0.0.1/")
    assert re.search(r"Complete requests:\s+2000\n", said), said
    assert re.search(r"Failed requests:\s+0\n", said), said
    assert re.search(rf"Document Length:\s+{length} bytes\n", said), said
    assert "Non-2xx" not in said


# --- memcached -----------------------------------------------------------------------------------

SESSION = (
    b"get nothing", b"set word 5 0 4\r\nlate", b"get word", b"append word 0 0 3\r\n on",
    b"get word", b"set count 0 0 2\r\n41", b"incr count 1", b"decr count 40",
    b"add word 0 0 1\r\nx",
    b"touch word 100", b"gat 100 word", b"delete count", b"get count word",
    b"set big 0 0 500000\r\n" + b"b" * 500000, b"get big", b"slabs automove 1", b"verbosity 0",
    b"stats reset", b"flush_all", b"get word", b"nonsense", b"lru_crawler disable",
)  # fmt: skip


def session(service: Service) -> list[bytes]:
    """What memcached answers to SESSION, to a new start of its crawler, and to a crawl.

    It answers "disable" before the crawler's thread has ended, and refuses to start another one
    until then; and "crawl" is refused while a crawl of its own is under way (its crawler.c).
    """
    found = service.talk(11211, *SESSION)
    service.settled(11211, b"stats settings", lambda said: b"STAT lru_crawler no\r\n" in said)
    found += service.talk(11211, b"lru_crawler enable")
    crawl = service.settled(11211, b"lru_crawler crawl all", lambda said: b"BUSY" not in said)
    return [*found, crawl]


@pytest.fixture(scope="session")
def memcached(tmp_path_factory: Maker) -> Application:
    tree = unpacked(debian("memcached", "memcached"), tmp_path_factory)
    command = ("memcached", "-u", "nobody", "-l", "127.0.0.1")
    return hardened(tmp_path_factory, tree, command, 11211, "--port", "11211")


def test_a_session_with_memcached(memcached: Application) -> None:
    with outside(memcached) as service:
        expected = session(service)
    with inside(memcached) as service:
        found = session(service)
        figures = service.talk(11211, b"stats")[0]
        kinds = service.talk(11211, b"stats settings", b"stats slabs", b"stats items")
    assert found == expected
    assert found[2] == b"VALUE word 5 4\r\nlate\r\nEND\r\n"
    assert found[4] == b"VALUE word 5 7\r\nlate on\r\nEND\r\n"
    assert found[6:8] == [b"42\r\n", b"2\r\n"]
    assert b"b" * 500000 in found[14]
    assert b"STAT cmd_get " in figures and b"STAT threads 4\r\n" in figures
    assert b"STAT inter 127.0.0.1" in kinds[0]


# --- scanners ------------------------------------------------------------------------------------


def test_syft_finds_exactly_the_packages_of_the_bill(rootfs_tar: Path, tmp_path: Path) -> None:
    syft = Path(sys.executable).with_name("syft")
    result = tmp_path / "result"
    done = Done(str(rootfs_tar), "-o", str(result), "--http", "http://localhost/", command=NGINX)
    assert done.code == 0, done.err
    said = subprocess.run(
        [str(syft), "scan", "--from", "oci-archive", str(result / "image.oci.tar"), "-o", "json"],
        capture_output=True, check=True, env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"},
    )  # fmt: skip
    artifacts = json.loads(said.stdout)["artifacts"]
    bill = json.loads((result / "sbom.cdx.json").read_text())["components"]
    named = {(item["name"], item["version"]) for item in bill}
    found = {(item["name"], item["version"]) for item in artifacts if item["type"] != "binary"}
    assert found == named
    assert {item["name"] for item in artifacts} == {name for name, _ in named}
    assert {"nginx", "libc6", "libssl3"} <= {name for name, _ in found}
