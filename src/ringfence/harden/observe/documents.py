"""Documents that a web server has and the exercise did not ask for: found by content.

Where an answer is a file of the tree byte for byte, the files beside and below that file have
addresses, too. They are asked for in the retest, since what an exercise did not open must be
served all the same.
"""

from __future__ import annotations

import hashlib
import re

from ringfence.harden.observe.exercise import Answer, Request
from ringfence.harden.observe.trace import Trace
from ringfence.harden.tree import Tree

_BODY = re.compile(r"^200 .*body (\d+) ([0-9a-f]{16})$")
_PLAIN = re.compile(r"[\w./-]+")
MOST_DOCUMENTS = 20
MOST_BYTES = 16 << 20


def documents(
    requests: tuple[Request, ...], answers: tuple[Answer, ...], trace: Trace, tree: Tree
) -> tuple[Request, ...]:
    """Requests for files that lie where an answer of the exercise came from."""
    opened = {tree.resolve(use.path)[0] for use in trace.uses if not use.error and not use.writes}
    found: dict[Request, None] = {}
    for request, answer in zip(requests, answers, strict=False):
        match = _BODY.match(answer.text)
        if not match or request.method != "GET" or "?" in request.path:
            continue
        file = _source(opened, int(match[1]), match[2], tree)
        if file is None:
            continue
        folder = file.rpartition("/")[0]
        # `/a/b.html` and `/` alike: the address of the folder that the file lies in.
        address = request.path.rpartition("/")[0]
        for path in sorted(tree.below(folder)):
            rest = path[len(folder) + 1 :]
            if path != file and _PLAIN.fullmatch(rest) and len(found) < MOST_DOCUMENTS:
                found[Request("GET", request.port, f"{address}/{rest}")] = None
    return tuple(found)


def _source(opened: set[str], size: int, digest: str, tree: Tree) -> str | None:
    for path in sorted(opened):
        status = tree.status(path)
        if status is None or status.st_size != size or size > MOST_BYTES or not size:
            continue
        if hashlib.sha256(tree.read(path)).hexdigest()[:16] == digest:
            return path
    return None
