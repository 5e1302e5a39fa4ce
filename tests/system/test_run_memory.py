"""Files in memory alone (memfd_create(2)) do not execute inside a fence, unless the service was
seen to need it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ringfence.run.engine import Container, working_engine
from ringfence.run.fence import Fence
from ringfence.run.places import reachable_folder
from tests.system.hardening import Done, fenced, static_server

pytestmark = pytest.mark.system

CALLS = ("memfd_create", "execveat", "fork", "wait4", "sendfile")
"""What its filter must not be what refuses."""
EXECUTED, REFUSED = b"executed", b"refused: 13"
"""13: EACCES, by the kernel's setting; a filter would have said 1, EPERM."""
IN_MEMORY = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static int in_memory(void) {
  char *words[] = {"copy", "of", "it", 0};
  int from = open("/proc/self/exe", O_RDONLY), to = memfd_create("copy", MFD_CLOEXEC);
  while (sendfile(to, from, 0, 1 << 20) > 0) {}
  syscall(SYS_execveat, to, "", words, words + 3, AT_EMPTY_PATH);
  return errno;
}
"""
ONCE = (
    IN_MEMORY
    + r"""
int main(int count, char **words) {
  (void)words;
  if (count == 3) return dprintf(1, "executed") < 0;
  usleep(300000);
  dprintf(1, "refused: %d", in_memory());
  return 0;
}
"""
)
SERVER = (
    IN_MEMORY
    + r"""
static void end(int number) { (void)number; _exit(0); }
static int tried(void) {
  int status = 0;
  pid_t child = fork();
  if (child == 0) _exit(in_memory());
  if (child < 0 || waitpid(child, &status, 0) != child) return errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}
int main(int count, char **words) {
  (void)words;
  if (count == 3) return 0;
  signal(SIGTERM, end);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int one = 1, door = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(door, (void *)&at, sizeof at) || listen(door, 16)) return 1;
  for (;;) {
    char asked[1024], page[64] = "page";
    int peer = accept(door, 0, 0);
    ssize_t got = read(peer, asked, sizeof asked - 1);
    asked[got > 0 ? got : 0] = 0;
    if (strstr(asked, "GET /run")) {
      int failed = tried();
      if (failed) sprintf(page, "refused: %d", failed); else strcpy(page, "executed");
    }
    dprintf(peer, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", (int)strlen(page), page);
    close(peer);
  }
}
"""
)


@pytest.mark.parametrize(("allowed", "said"), [(False, REFUSED), (True, EXECUTED)])
@pytest.mark.parametrize("in_steps", [False, True])
def test_it_is_refused_in_a_fence_and_only_there(
    allowed: bool, said: bytes, in_steps: bool
) -> None:
    place = reachable_folder()
    root = static_server(place / "root", ONCE)
    for folder in ("dev", "proc", "sys"):
        (root / folder).mkdir()
    fence = Fence(root, ("/bin/server",), (), "/", 1000, 1000, memory_programs=allowed)
    container = Container(fence, place, working_engine())
    try:
        if in_steps:
            container.create()
            container.start()
        else:
            container.launch()
            container.forbid_memory_programs()
        assert container.wait(10) == 0
        assert container.output.finish() == said
    finally:
        container.remove()
        shutil.rmtree(place)


def test_a_service_that_was_not_seen_to_need_it_is_refused_it(tmp_path: Path) -> None:
    tree = static_server(tmp_path / "tree", SERVER)
    allowed = [word for call in CALLS for word in ("--allow", call)]
    words = ("--http", "http://localhost:8080/", *allowed)
    done = Done(str(tree), "-o", str(tmp_path / "result"), *words, command=("/bin/server",))
    assert done.code == 0, done.err
    with fenced(tmp_path / "result", 8080) as service:
        assert service.ask("/run")[1] == REFUSED


def test_one_that_was_keeps_it(tmp_path: Path) -> None:
    tree = static_server(tmp_path / "tree", SERVER)
    words = ("--http", "http://localhost:8080/", "--http", "http://localhost:8080/run")
    done = Done(str(tree), "-o", str(tmp_path / "result"), *words, command=("/bin/server",))
    assert done.code == 0, done.err
    with fenced(tmp_path / "result", 8080) as service:
        assert service.ask("/run")[1] == EXECUTED
