"""Small services: a static program, busybox with CGI scripts, a plain command; and bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.images import Entry as Member
from tests.images import layer, oci_archive, oci_files, write_archive
from tests.system.conftest import program
from tests.system.hardening import Done, busybox, fenced, report, static_server

pytestmark = pytest.mark.system

SERVER = r"""
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static volatile sig_atomic_t ended;
static void end(int number) { (void)number; ended = 1; }
int main(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
  struct sigaction act = {.sa_handler = end};
  int one = 1, door = socket(AF_INET, SOCK_STREAM, 0);
  sigaction(SIGTERM, &act, 0);
  setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(door, (void *)&at, sizeof at) || listen(door, 16)) return 1;
  while (!ended) {
    char asked[1024], page[1024];
    int peer = accept(door, 0, 0);
    if (peer < 0) continue;
    ssize_t got = read(peer, asked, sizeof asked - 1);
    asked[got > 0 ? got : 0] = 0;
    char *path = strtok(strchr(asked, ' ') ? strchr(asked, ' ') + 1 : asked, " ");
    int file = path && strcmp(path, "/late") == 0 ? open("/srv/late", O_RDONLY)
             : path && strcmp(path, "/") == 0 ? open("/srv/index", O_RDONLY) : -1;
    ssize_t size = file < 0 ? 0 : read(file, page, sizeof page);
    dprintf(peer, "HTTP/1.0 %s\r\nContent-Length: %zd\r\n\r\n",
            file < 0 ? "404 None" : "200 OK", size);
    write(peer, page, size);
    if (file >= 0) close(file);
    close(peer);
  }
  return 0;
}
"""


CLOCK = r"""
    if (*asked == 'O' || strstr(asked, "clock")) {
      struct timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      size = snprintf(page, sizeof page, "%09ld", now.tv_nsec);
    }
"""
"""What makes the server's answers to OPTIONS, and on its clock, change by themselves."""


def test_a_static_server(tmp_path: Path) -> None:
    """`/srv/late` is named in the program alone: nothing in the exercise opens it."""
    tree = static_server(tmp_path / "tree", SERVER)
    (tree / "srv").mkdir()
    (tree / "srv/index").write_text("page\n")
    (tree / "srv/late").write_text("late\n")
    result = tmp_path / "result"
    done = Done(str(tree), "-o", str(result), "--phases", "--http", "http://localhost:8080/",
                command=("/bin/server",))  # fmt: skip
    assert done.code == 0, done.err
    found = report(result)
    assert (result / "image.oci.tar").stat().st_size < 500_000
    assert found.counts.after.system_calls < 40
    assert {file.path for file in found.files} >= {"bin/server", "srv/index", "srv/late"}
    with fenced(result, 8080) as service:
        assert service.ask("/late") == (200, b"late\n")
        assert service.ask("/none")[0] == 404
        assert service.stop()[0] == 0


def test_a_service_that_a_shell_script_starts(tmp_path: Path) -> None:
    """The kernel runs the shell in the script's place: no call names it."""
    tree = static_server(tmp_path / "tree", SERVER)
    shutil.copy(program("busybox"), tree / "bin/sh")
    (tree / "srv").mkdir()
    (tree / "srv/index").write_text("page\n")
    (tree / "start.sh").write_text("#!/bin/sh\nexec /bin/server\n")
    (tree / "start.sh").chmod(0o755)
    result = tmp_path / "result"
    words = (str(tree), "-o", str(result), "--phases", "--http", "http://localhost:8080/")
    done = Done(*words, command=("/start.sh",))
    assert done.code == 0, done.err
    assert {"start.sh", "bin/sh", "bin/server"} <= {file.path for file in report(result).files}
    with fenced(result, 8080) as service:
        assert service.ask("/") == (200, b"page\n")
    done = Done(*words, command=("/bin/server",))
    assert done.code == 0, done.err
    assert not {"start.sh", "bin/sh"} & {file.path for file in report(result).files}


def test_scripts_that_were_not_exercised_work(tmp_path: Path) -> None:
    tree = busybox(tmp_path / "tree", "httpd", "sh", "cat", "date", "rm")
    scripts = tree / "www/cgi-bin"
    scripts.mkdir(parents=True)
    (tree / "etc").mkdir()
    (tree / "etc/list").write_text("listed\n")
    (tree / "www/index.html").write_text("front\n")
    for name, body in (("asked", "echo asked"), ("late", "cat /etc/list")):
        (scripts / name).write_text(f"#!/bin/sh\necho 'Content-Type: text/plain'\necho\n{body}\n")
        (scripts / name).chmod(0o755)
    result = tmp_path / "result"
    done = Done(str(tree), "-o", str(result), "--phases", "--http", "http://localhost:8080/",
                "--http", "http://localhost:8080/cgi-bin/asked",
                command=("/bin/httpd", "-f", "-p", "8080", "-h", "/www"))  # fmt: skip
    assert done.code == 0, done.err
    found = report(result)
    assert found.counts.after.bytes < 2_000_000 + 200_000
    paths = {file.path for file in found.files}
    assert {"bin/cat", "bin/sh", "etc/list"} <= paths
    assert not {"bin/rm", "bin/date"} & paths
    assert "/bin/sh stays, because the service runs it" in " ".join(found.notes)
    with fenced(result, 8080) as service:
        assert service.ask("/cgi-bin/late") == (200, b"listed\n")


def test_answers_that_change_by_themselves_are_not_the_fences_fault(tmp_path: Path) -> None:
    """Those that nobody asked for are told of; an exercise that does so is an error."""
    source = SERVER.replace("    dprintf(peer,", f"{CLOCK}    dprintf(peer,", 1)
    source = source.replace("#include <fcntl.h>", "#include <fcntl.h>\n#include <time.h>")
    tree = static_server(tmp_path / "tree", source)
    (tree / "srv").mkdir()
    (tree / "srv/index").write_text("page\n")
    result = tmp_path / "result"
    words = (str(tree), "-o", str(result), "--http")
    done = Done(*words, "http://localhost:8080/", command=("/bin/server",))
    assert done.code == 0, done.err
    found = report(result)
    told = "OPTIONS :8080/ is answered differently from run to run"
    assert told in " ".join(found.notes)
    assert not [item for item in found.retest if item.request.startswith("OPTIONS")]
    done = Done(*words, "http://localhost:8080/clock", command=("/bin/server",))
    assert done.code == 2 and "GET :8080/clock is answered differently from run to run" in done.err
    assert "--keep" not in done.err and "leave it out" in done.err


def test_a_command_of_this_host(tmp_path: Path) -> None:
    """redis from this host's files; the host is not changed, and its client says the same."""
    result = tmp_path / "result"
    where = Path("/var/lib/redis")
    before = sorted(os.listdir(where))
    exercise = "redis-cli set key value && redis-cli get key && redis-cli bgsave"
    command = ("redis-server", "--dir", "/var/lib/redis", "--daemonize", "no")
    done = Done("-o", str(result), "--user", "redis", "--exercise", exercise, command=command)
    assert done.code == 0, done.err
    assert sorted(os.listdir(where)) == before
    found = report(result)
    assert found.before.zero_days_to_admin.system is not None
    assert found.volumes == ("/var/lib/redis",)
    assert found.after.surface.total < found.before.surface.total


def test_the_service_of_an_image_is_its_own(tmp_path: Path) -> None:
    tree = static_server(tmp_path / "tree", SERVER)
    body = layer([Member("bin/server", (tree / "bin/server").read_bytes(), mode=0o4755),
                  Member("srv/index", b"page\n")])  # fmt: skip
    image = oci_archive(tmp_path / "image.tar", [body],
                        config={"Entrypoint": ["/bin/server"], "User": "77:78"})  # fmt: skip
    result = tmp_path / "result"
    done = Done(str(image), "-o", str(result), "--http", "http://localhost:8080/")
    assert done.code == 0, done.err
    found = report(result)
    assert found.user == "77:78"
    assert (found.counts.before.setuid, found.counts.after.setuid) == (1, 0)


def test_keep_drop_and_a_configuration_file(tmp_path: Path) -> None:
    tree = static_server(tmp_path / "tree", SERVER)
    for name in ("srv/index", "opt/aside", "opt/extra"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("x")
    (tmp_path / "ringfence.toml").write_text(
        f'[harden]\ntarget = "{tree}"\ncommand = ["/bin/server"]\noutput = "made"\n'
        'http = ["http://localhost:8080/"]\nkeep = ["/opt"]\ndrop = ["/opt/aside"]\n'
    )
    done = Done(cwd=tmp_path)
    assert done.code == 0, done.err
    paths = {file.path for file in report(tmp_path / "made").files}
    assert "opt/extra" in paths and "opt/aside" not in paths


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = static_server(tmp_path / "tree", SERVER)
    (made / "srv").mkdir()
    (made / "srv/index").write_text("page\n")
    return made


@pytest.mark.parametrize(
    ("words", "command", "said"),
    [
        ((), ("/bin/none",), "no such program"),
        ((), (), "does not say what its service is"),
        (("--http", "http://example.org/"), ("/bin/server",), "is not http://localhost"),
        (("--exercise", "exit 3"), ("/bin/server",), "fails outside the fence, too: exit 3"),
        (("--allow", "nonsense"), ("/bin/server",), "no system call 'nonsense'"),
        (("--user", "nobody-here"), ("/bin/server",), "no such user"),
        (("--user", "70000"), ("/bin/server",), "below 65536"),
        (("--user", "0"), ("/bin/server",), "unprivileged"),
        (("--writable", "/srv", "--writable", "/bin"), ("/bin/server",), "holds /bin/server"),
        (("--writable", ""), ("/bin/server",), "whole tree"),
        (("--drop", "/"), ("/bin/server",), "whole tree"),
        (("--drop", "bin/../bin/server"), ("/bin/server",), "own program"),
        ((), ("/bin/server", "\udcff"), "not UTF-8"),
        (("--port", "81", "--wait", "1"), ("/bin/server",), "did not listen on 81"),
    ],
)
def test_wrong_input_ends_in_one_line_and_no_result(
    tree: Path, tmp_path: Path, words: tuple[str, ...], command: tuple[str, ...], said: str
) -> None:
    done = Done(str(tree), "-o", str(tmp_path / "result"), *words, command=command)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert not (tmp_path / "result").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"WorkingDir": "/srv\nExecStartPre=/bin/evil"}, "policies cannot say"),
        ({"WorkingDir": "srv"}, "does not begin with /"),
        ({"Env": ["=x"]}, "no name of a variable"),
        ({"WorkingDir": "/my'app"}, "give it another name in the tree"),
        ({"User": "70000"}, "below 65536"),
    ],
)
def test_an_image_that_no_policy_can_describe_is_refused(
    tmp_path: Path, config: dict[str, object], said: str
) -> None:
    body = layer([Member("bin/server", b"", mode=0o755)])
    image = oci_archive(tmp_path / "image.tar", [body],
                        config={"Entrypoint": ["/bin/server"], **config})  # fmt: skip
    done = Done(str(image), "-o", str(tmp_path / "result"))
    assert (done.code, len(done.err.strip().splitlines())) == (2, 1)
    assert said in done.err
    assert not (tmp_path / "result").exists()


def test_names_from_outside_are_no_lines_of_a_policy(tree: Path, tmp_path: Path) -> None:
    """Of the target, of files and of what was exercised; the firewall is loaded in the fence."""
    target = tmp_path / "tree\n}\nadd table ip evil\n#"
    tree.rename(target)
    (target / "srv" / "\udcff.html").write_text("")
    result = tmp_path / "result"
    done = Done(str(target), "-o", str(result), "--keep", "/srv", "--exercise", "true \udcff",
                "--writable", "/data/a b,%h", "--port", "8080",
                command=("/bin/server",))  # fmt: skip
    assert done.code == 0, done.err
    assert "srv/\\xff.html" in {file.path for file in report(result).files}
    why = Done("-o", str(result), "--why", "/srv/\udcff.html")
    assert (why.code, why.out) == (0, "/srv/\udcff.html: asked for with --keep\n"), why.err
    assert report(result).retest[0].request.endswith("true \\xff")
    for policy in (result / "policy").iterdir():
        lines = policy.read_bytes().splitlines()
        assert not [line for line in lines if line.startswith(b"add table")], policy
    rules = result / "policy/nftables.nft"
    subprocess.run([program("nft"), "-c", "-f", rules], check=True)
    with fenced(result, 8080) as service:
        assert service.ask("/") == (200, b"page\n")


def test_a_unit_starts_the_link_that_the_command_names(tmp_path: Path) -> None:
    tree = busybox(tmp_path / "tree", "httpd")
    result = tmp_path / "result"
    done = Done(str(tree), "-o", str(result), "--port", "80",
                command=("httpd", "-f", "-h", "/"))  # fmt: skip
    assert done.code == 0, done.err
    unit = (result / "policy/service.service").read_text()
    assert 'ExecStart="/bin/httpd" "-f" "-h" "/"\n' in unit
    assert report(result).name == "httpd"


def test_a_service_that_ends_by_itself(tmp_path: Path) -> None:
    tree = busybox(tmp_path / "tree", "sh", "echo")
    done = Done(str(tree), "-o", str(tmp_path / "result"), command=("/bin/echo", "error: bye"))
    assert done.code == 2 and "ended by itself with status 0" in done.err and "bye" in done.err


def test_a_service_writes_into_its_own_home_and_into_no_other(tmp_path: Path) -> None:
    """With its state and without the keys beside it; a folder that it finds is not written."""
    tree = busybox(tmp_path / "tree", "httpd", "sh", "mkdir")
    for path, text in (
        ("etc/passwd", "root:x:0:0::/:\napp:x:1000:1000::/home/app:\n"),
        ("home/app/state", "kept\n"), ("home/app/.ssh/key", "secret\n"), ("home/you/x", "yours\n"),
    ):  # fmt: skip
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for path in ("home/app", "home/app/state", "home/app/.ssh", "home/app/.ssh/key"):
        os.chown(tree / path, 1000, 1000)
    (tree / "home/app/state").chmod(0o600)

    def hardened(home: str) -> Done:
        serve = f"mkdir -p /home/you && echo x > {home}/db && exec httpd -f -p 8080 -h /home"
        return Done(str(tree), "-o", str(tmp_path / "result"), "--user", "app", "--port", "8080",
                    command=("/bin/sh", "-c", serve))  # fmt: skip

    other = hardened("/home/you")
    assert other.code == 2 and "--writable /home/you" in other.err, other.err
    assert "foreground" not in other.err
    done = hardened("/home/app")
    assert done.code == 0, done.err
    found = report(tmp_path / "result")
    paths = {file.path for file in found.files}
    assert "home/app/state" in paths and "home/app/.ssh/key" not in paths
    notes = " ".join(found.notes)
    assert "files in /home/app that were left out, not known to be the service's: 1;" in notes
    assert "was written" not in notes


def test_an_image_of_another_architecture(tmp_path: Path) -> None:
    files = oci_files([layer([Member("a", b"")])], None)
    index = json.loads(files["index.json"])
    index["manifests"][0]["platform"] = {"architecture": "s390x", "os": "linux"}
    files["index.json"] = json.dumps(index).encode()
    image = write_archive(tmp_path / "image.tar", files)
    done = Done(str(image), "-o", str(tmp_path / "result"), command=("/a",))
    assert done.code == 2 and "s390x" in done.err


def test_a_result_is_replaced_and_nothing_else_is(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("mine")
    done = Done(str(tree), "-o", str(other), command=("/bin/server",))
    assert done.code == 2 and "no result of ours" in done.err
    assert (other / "mine").read_text() == "mine"
    for _ in range(2):
        done = Done(str(tree), "-o", str(tmp_path / "result"), "--http", "http://localhost:8080/",
                    command=("/bin/server",))  # fmt: skip
        assert done.code == 0, done.err


def test_a_full_disk_leaves_nothing_half_made(tree: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run([program("mount"), "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        done = Done(str(tree), "-o", str(small / "result"), "--http", "http://localhost:8080/",
                    command=("/bin/server",))  # fmt: skip
        left = os.listdir(small)
    finally:
        subprocess.run([program("umount"), small], check=True)
    assert done.code == 2 and "No space left" in done.err
    assert left == []


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_it_works_under_every_umask(mask: int, tree: Path, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        done = Done(str(tree), "-o", str(tmp_path / "result"), "--http", "http://localhost:8080/",
                    command=("/bin/server",))  # fmt: skip
    finally:
        os.umask(before)
    assert done.code == 0, done.err
