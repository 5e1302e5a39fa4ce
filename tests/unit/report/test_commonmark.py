"""Text from outside in Markdown: read back by CommonMark's rules it is the same text, and that is
all that it is. Of every report that is written as Markdown."""

from __future__ import annotations

import html
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.harden.markdown import write_markdown
from ringfence.model.need import State
from ringfence.probe.definition import Seen
from ringfence.probe.record import SCHEMA, Attempt, ProbeReport, ProbeTarget
from ringfence.report.commonmark import block, bold, code, prose, table
from ringfence.report.probe import markdown
from tests.command import ringfence
from tests.unit.harden.reports import hardened
from tests.unit.harden.test_policies import NEEDS

ROOT = Path(__file__).parents[3]
SERVER = ROOT / "examples" / "1-general-purpose-server.toml"
LIVE = "\\`*_[]{}<>|~!#@$^"
"""What may mean something within a line."""
HOSTILE = (
    "<script>x</script>", "<img src=//a.b>", "`![p](http:evil.example)[ok](http:e.example)`",
    "# [c](javascript:1)", "a\n# Heading\n[click](javascript:alert(1))", "``` x", "a|b`|`c\\|",
    "&lt;b&gt;", "@all", "see https://evil.example/ and www.evil.example", "**b** __c__ ~~d~~",
)  # fmt: skip
TEXT = st.text(st.characters() | st.sampled_from("`|\\ <>&[]()!*_#-+=.1@:/\n"), max_size=40)


def read(line: str) -> str:
    """The text of a line of Markdown. Fails where anything but escapes, entities and code spans
    has a meaning."""
    found, place = "", 0
    while place < len(line):
        char = line[place]
        if char == "\\" and place + 1 < len(line) and line[place + 1] in LIVE + "-+=.)":
            found, place = found + line[place + 1], place + 2
        elif char == "`":
            fence = re.match("`+", line[place:])
            assert fence is not None
            inside = re.match(f"{fence[0]}(?!`)(.*?)(?<!`){fence[0]}(?!`)", line[place:])
            assert inside is not None, f"a code span without an end: {line!r}"
            text = inside[1]
            if text.strip(" ") and text[0] == " " == text[-1]:
                text = text[1:-1]
            assert "|" not in text, "it would end a cell"
            found, place = found + text, place + len(inside[0])
        elif char == "&":
            entity = re.match("&(amp|lt|gt|#124);", line[place:])
            assert entity is not None, line
            found, place = found + html.unescape(entity[0]), place + len(entity[0])
        else:
            assert char not in LIVE, f"{char} is live: {line!r}"
            found, place = found + char, place + 1
    return found


def flat(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


@given(TEXT)
@example("`")
@example("a``b` c|")
@example("\\")
def test_prose_is_read_back_as_it_was(text: str) -> None:
    assert read(prose(text)) == flat(text).strip(" ")
    assert read(block(text)) == flat(text).strip(" ")
    assert not re.match(r"[-+=#>]|\d+[.)]", block(text))


@given(TEXT)
@example("`")
@example(" ")
@example(" a ")
def test_code_is_read_back_as_it_was(text: str) -> None:
    assert read(code(text)) == flat(text)


def test_common_text_stays_as_it_is() -> None:
    plain = "kernel: measured: open in /usr/lib/x.so, 1.5 (2 of 3); no 'a' = \"b\""
    assert prose(plain) == plain
    assert code("http.leak") == "`http.leak`"
    assert bold("open") == "**open**"
    assert block("1. - x") == "1\\. - x" and prose("1. - x") == "1. - x"


@pytest.mark.parametrize(
    "word",
    [
        "@all",
        "a@b.example",
        "https://e.example",
        "www.e.example",
        "MAILTO:a",
        "#12",
        "GH-26",
        "%6",
        "&7",
        "!5",
        "JIRA-12",
        "deadbeefdeadbeef",
        "0123456",
    ],
)
def test_what_forges_link_of_their_own_accord_stands_in_code(word: str) -> None:
    assert prose(f"see {word} there") == f"see `{word}` there"


def test_a_table_takes_plain_text_and_markdown() -> None:
    assert table(["a", "b"], [["x|y", code("z")], ["*", bold("w")]]) == [
        "| a | b |", "| --- | --- |", "| x&#124;y | `z` |", r"| \* | **w** |"]  # fmt: skip


def check_document(document: str) -> None:
    """Every line of a report: without its own marks, all is plain; every row has as many cells as
    its table; a block of code holds commands of ours."""
    cells = 0
    for line in re.sub(r"(?s)\n```\nringfence run .*?\n```\n", "\n", document).splitlines():
        rest = re.sub(r"^(#{1,2} |- |   - |\d+\. )", "", line)
        found = rest.strip("|").split(" | ") if rest.startswith("| ") else []
        assert not (found and cells) or len(found) == cells, line
        cells = len(found) or (cells if re.fullmatch(r"\|( --- \|)+", rest) else 0)
        if not set(rest) <= set("|- "):
            for part in found or [rest]:
                read(re.sub(r"^\*\*(.*?)\*\*", r"\1", part.strip(" ")))


@pytest.fixture(params=HOSTILE)
def design(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A deployment with a hostile name, of itself and of its entry point."""
    path = tmp_path / "x.toml"
    name = "".join(f"\\u{ord(char):04x}" for char in request.param)
    text = SERVER.read_text()
    assert '"general-purpose server"' in text
    path.write_text(text.replace('"general-purpose server"', f'"{name}"'))
    return path


def test_measure_and_compare(design: Path) -> None:
    for words in (
        ("measure", design), ("compare", design, "--as", "vm", "--as", "server", "--no-plan"),
        ("compare", design, SERVER, "--targets-only", "--no-plan"),
    ):  # fmt: skip
        done = ringfence(*words, "--format", "markdown")
        assert done.code == 0
        check_document(done.out)


@pytest.mark.parametrize("name", HOSTILE)
def test_probe(name: str) -> None:
    attempt = Attempt("a.b", "group", name, State.CLOSED, Seen.OPEN, name, name, "T1611", "host")
    counts = {"attempts": 1, "open": 1, "closed": 0, "unsupported": 0}
    target = ProbeTarget("process", name, 1, name, "join")
    document = markdown(ProbeReport(SCHEMA, target, (attempt,), ("a.b",), counts, (), (), 1.0))
    assert "**open**" in document
    check_document(document)


@pytest.mark.parametrize("name", HOSTILE)
def test_harden(name: str) -> None:
    needs = msgspec.structs.replace(NEEDS, origin=name)
    check_document(write_markdown(hardened(name), needs))
