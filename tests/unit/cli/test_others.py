"""`compare`, `explain`, `schema`, and what all commands share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.knowledge.loader import load
from ringfence.model.need import leaves
from ringfence.probe.battery import PROBES
from ringfence.probe.expect import need_of
from tests.command import ringfence

ROOT = Path(__file__).parents[3]
SERVER = ROOT / "examples" / "1-general-purpose-server.toml"


def test_compare_places_the_service_into_every_deployment() -> None:
    done = ringfence("compare", SERVER, "--format", "json", "--no-plan")
    document = json.loads(done.out)
    names = [item["deployment"]["name"] for item in document["measurements"]]
    assert names == ["general-purpose server", *load().templates]
    assert sorted(document["order"]) == sorted(names)
    assert set(document["sensitivity"]["orders"]) == {"classic", "assets"}


def test_compare_with_some_deployments_alone() -> None:
    done = ringfence("compare", SERVER, "--as", "unikernel", "--as", "vm", "--format", "markdown")
    assert "in 3 deployments" in done.out
    assert "| unikernel |" in done.out
    assert "gvisor" not in done.out


def test_a_deployment_that_is_named_twice_is_one() -> None:
    done = ringfence("compare", SERVER, "--as", "vm", "--as", "unikernel", "--as", "vm", "--format",
                     "json", "--no-plan")  # fmt: skip
    names = [item["deployment"]["name"] for item in json.loads(done.out)["measurements"]]
    assert names == ["general-purpose server", "vm", "unikernel"]


def test_compare_refuses_a_deployment_that_it_does_not_know() -> None:
    done = ringfence("compare", SERVER, "--as", "mainframe")
    assert done.code == 2
    assert "no deployment 'mainframe'" in done.err


def test_what_was_stated_stays_and_what_a_template_supplies_is_assumed() -> None:
    done = ringfence("compare", SERVER, "--as", "unikernel", "--format", "json", "--no-plan")
    placed = json.loads(done.out)["measurements"][1]
    leak = next(item for item in placed["vectors"] if item["id"] == "http.leak")
    execution = next(item for item in placed["vectors"] if item["id"] == "http.execution")
    assert {item["grade"] for item in leak["evidence"]} == {"declared"}
    assert "assumed" in {item["grade"] for item in execution["evidence"]}
    assert execution["gives"] == {"zone": "system", "level": "admin"}


@pytest.mark.parametrize("target", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_every_id_that_a_report_prints_is_explained(target: Path) -> None:
    document = json.loads(ringfence("measure", target, "--format", "json").out)
    names = {item["id"] for item in (*document["vectors"], *document["closed"])}
    for boundary in document["deployment"]["boundaries"]:
        names |= {item["id"] for item in boundary["mechanisms"]}
    names |= {item["mechanism"] for item in document["plan"]}
    names |= {name for item in document["vectors"] for name in item["needs"]["conditions"]}
    names |= {name for item in document["vectors"] for name in item["blocked_by"]}
    names |= {document["scale"], document["start"]}
    names |= {word for who in document["surface"]["by_attacker"] for word in who.split("/")}
    done = ringfence("explain", *sorted(names))
    assert done.code == 0, done.err
    assert len(done.out) > 40 * len(names)


def test_every_entry_of_the_knowledge_base_is_explained() -> None:
    listed = ringfence("explain").out.split()
    assert set(load().mechanisms) | set(load().families) | set(load().templates) <= set(listed)
    assert {probe.id for probe in PROBES} <= set(listed)
    assert ringfence("explain", *listed).code == 0


def test_an_entry_point_is_explained_by_its_kind() -> None:
    done = ringfence("explain", "tcp:127.0.0.1:80", "unix:/run/x.sock", "http.leak")
    assert done.code == 0
    assert "entry-tcp-leak" in done.out
    assert "entry-tcp-execution" in done.out
    assert "entry-unix-leak" in done.out


def test_explain_leads_to_the_entry_and_its_source() -> None:
    done = ringfence("explain", "io-uring")
    assert "families/async.toml" in done.out
    assert "syscall:io_uring_setup" in done.out
    assert "weighs: 100 / 10 ** exploits spent before (classic): 10 after one" in done.out
    assert "https://" in done.out


def test_a_probe_is_explained_by_what_it_tries_and_what_its_result_settles() -> None:
    done = ringfence("explain", "identity.root-user", "capability.chown", "call.call-599")
    assert done.code == 0
    first, second, third = done.out.strip().split("\n\n")
    assert "tries: Sets the ids of a child of ours to 0" in first
    assert "nscap:CAP_SETUID or process:root-id" in first
    assert "its result settles: nscap:CAP_CHOWN" in second
    assert "ATT&CK: T1106" in third
    assert ringfence("explain", "call.call-none").code == 2


def test_probe_takes_a_target_or_a_command() -> None:
    done = ringfence("probe", "1", "--", "sleep", "60")
    assert done.code == 2
    assert "a target or a command after --, not both" in done.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("syscall:read", "a condition, a system call that no filter refuses"),
        ("cap:CAP_CHOWN", "a condition, a capability"),
        ("file:setuid", "a condition, files of a kind"),
        ("file:/srv/in.pdf", "through the entry point file:/srv/in.pdf"),
        ("probe:keyrings", "whether probing found keyrings open"),
        ("watch/changed", "A file that is not as the baseline has it"),
        ("web server:execution", "an exploit for execution in web server"),
        ("http.leak", "leak through the entry point http;"),
    ],
)
def test_explain_knows_every_kind_of_id(name: str, said: str) -> None:
    done = ringfence("explain", name)
    assert done.code == 0 and done.out.startswith(name) and said in done.out


@pytest.mark.parametrize(
    "name",
    ["syscall:nonsense", "device:nonsense", "syscall:socket[NONE]", "syscall:*", "cap:CAP_FOO",
     "nscap:CAP_FOO", "sysctl:a.b==1", "path:zzz", "kernel:foo", "probe:zzz", "watch/moved",
     ".leak", "leak", ":leak", "tcp:"],
)  # fmt: skip
def test_explain_refuses_what_there_is_not(name: str) -> None:
    done = ringfence("explain", name)
    assert (done.code, done.out) == (2, "") and f"no id '{name}'" in done.err


def test_every_condition_and_what_probes_ask_for_is_explained() -> None:
    asked = {name for probe in PROBES for name in leaves(need_of(probe, load()))}
    asked |= {name for probe in PROBES for name in probe.decides}
    done = ringfence("explain", *sorted(asked | set(load().conditions)))
    assert done.code == 0, done.err


@pytest.mark.parametrize("ending", [".leak", ":leak", ":80"])
def test_what_explain_repeats_is_printable(ending: str) -> None:
    done = ringfence("explain", f"tcp:x\x1b[31mRED\nspoof{ending}")
    assert done.code == 0 and "tcp:x?[31mRED?spoof" in done.out
    assert all(line.isprintable() for line in done.out.split("\n"))


def test_explain_helps_with_a_slip() -> None:
    done = ringfence("explain", "io_uring")
    assert done.code == 2
    assert "did you mean io-uring" in done.err
    assert "kernel:smep-off" in ringfence("explain", "kernel:smepoff").err


@pytest.mark.parametrize("words", [["--help"], ["measure", "--help"], ["compare", "-h"]])
def test_help_is_fine(words: list[str]) -> None:
    done = ringfence(*words)
    assert done.code == 0
    assert "Usage: ringfence" in done.out


def test_wrong_usage_is_one_line_and_exit_code_2() -> None:
    for words in (["measure"], ["fly"], ["measure", "--kind", "cake", "x"], ["compare", "--as"]):
        done = ringfence(*words)
        assert done.code == 2, words
        assert done.err.count("\n") == 1, done.err
        assert done.out == ""


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ringfence", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_as_a_module_and_without_colour_where_there_is_no_terminal() -> None:
    done = run("measure", str(SERVER), "--no-plan", TERM="xterm-256color")
    assert done.returncode == 0
    assert "\x1b[" not in done.stdout


def test_a_reader_who_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m ringfence explain | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip()


def test_a_standard_output_without_room_is_one_line() -> None:
    for words in (["--help"], ["measure", "--help"], ["explain"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-m", "ringfence", *words], stdout=full,
                                  stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
        assert done.returncode == 2
        assert "no space left on device" in done.stderr
        assert done.stderr.count("\n") == 1


def test_closed_standard_streams_are_not_taken_by_files(tmp_path: Path) -> None:
    """A file that is opened gets the lowest free number, and what is printed would go into it."""
    words = f"measure {SERVER} --no-plan --format json"
    command = (f"{sys.executable} -m ringfence {words} -o {tmp_path}/out <&- >&- 2>&-; "
               f"{sys.executable} -m ringfence no-such-word <&- >&- 2>&-")  # fmt: skip
    done = subprocess.run(["bash", "-c", command], check=False)
    assert done.returncode == 2
    found, expected = json.loads((tmp_path / "out").read_text()), ringfence(*words.split())
    assert found.keys() == json.loads(expected.out).keys()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom unittest import mock\nfrom ringfence.cli.main import main\n"
        "with mock.patch('sys.argv', ['ringfence', '--help']):\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "heavy = {'msgspec', 'rich', 'highspy', 'numpy', 'zstandard'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_words_of_the_options_are_those_of_the_code() -> None:
    import importlib

    from ringfence.cli.options import FORMATS, KINDS
    from ringfence.collect.targets import KINDS as COLLECTORS

    assert sorted(KINDS) == sorted(kind.name for kind in COLLECTORS)
    for name in FORMATS.values():
        module = importlib.import_module(f"ringfence.report.{name}")
        assert callable(module.measurements)
        assert callable(module.comparison)


def test_compare_places_nothing_or_says_where() -> None:
    done = ringfence("compare", SERVER, "--targets-only", "--as", "vm")
    assert (done.code, done.out) == (2, "")
    assert "leave out --as" in done.err
