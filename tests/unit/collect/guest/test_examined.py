"""A saved examination as a target: what it probed replaces what its deployment assumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringfence.collect.guest.examined import MOST, accepts, read_examined
from ringfence.collect.targets import collect
from ringfence.errors import InputError
from ringfence.guest import result
from ringfence.guest.devices import Device
from ringfence.knowledge.loader import load
from ringfence.measure.assemble import Asked, measure
from ringfence.measure.guest import (
    ASLR,
    PAGE_ZERO,
    examined_deployment,
    service_alone,
    supposed_point,
)
from ringfence.measure.judge import deployment_of
from ringfence.measure.openings import landing
from ringfence.model import guest as model
from ringfence.model.deployment import Condition, Deployment
from ringfence.model.evidence import Evidence, Grade, Seen, Unseen
from ringfence.model.need import State
from ringfence.model.position import Level
from tests.command import ringfence

KNOWLEDGE = load()
NOT_DRIVEN = (Unseen("the guest under load", "no --exercise was given"),)
OPEN, CLOSED, UNKNOWN = State.OPEN, State.CLOSED, State.UNKNOWN
LINUX = "Linux 6.1.0-13-cloud-amd64"
BASE: dict[str, Any] = {
    "ring3_share": 0.4, "ring0_share": 0.6, "ring3_share_before": None, "halted_share": 0.5,
    "wp": True, "nx": True, "smep": True, "smap": True, "umip": True, "pan": None,
    "ring3_ports": False, "user_writable_tables": 0,
    "wxn": None, "paging": "4-level", "idt": None, "gdt": None, "vectors": None,
    "address_spaces": 2, "tables_complete": True, "writable_executable_pages": 0,
    "writable_aliases_of_code": 0, "user_pages": 90, "ring0_executable_user_pages": 0,
    "page_zero_mapped": False,
    "stack_executable": False, "heap_executable": False, "stack_guard_page": True,
    "randomised_bits": result.Bits(9, 12, 18, 16, 20, 14), "devices": (), "devices_given": (),
}  # fmt: skip


def examination(
    kernel: str = LINUX,
    unseen: tuple[Unseen, ...] = (),
    architecture: str = "x86_64",
    **changes: Any,
) -> result.Examination:
    """What `ringfence guest` gives, with some facts changed."""
    facts = {
        name: Seen(value, Evidence(Grade.PROBED, "QEMU", name))
        for name, value in (BASE | changes).items()
    }
    return result.Examination(
        schema=result.SCHEMA, image="image", architecture=architecture, kernel=kernel,
        kind="bzImage", accelerator="tcg", cpu="max", memory=1 << 28, boots=5, ends=(),
        facts=result.GuestFacts(**facts),
        unseen=unseen,
    )  # fmt: skip


def saved(folder: Path, found: result.Examination) -> Path:
    path = folder / "g.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    return path


def judged(folder: Path, *words: Any, **changes: Any) -> Deployment:
    facts = collect(str(saved(folder, examination(*words, **changes))), KNOWLEDGE)
    assert facts.target.kind == "examined"
    return deployment_of(facts, KNOWLEDGE)


def state(found: Deployment, name: str) -> tuple[State, Grade]:
    condition = found.condition(name, Level.USER)
    return condition.state, condition.evidence[0].grade


def test_names_and_types_are_those_that_the_examination_writes() -> None:
    """One interface, read and written in two rooms."""
    for mine, theirs in (
        (model.GuestFacts, result.GuestFacts),
        (model.ExaminedGuest, result.Examination),
        (model.Driven, Device),
        (model.Randomised, result.Bits),
    ):
        assert set(mine.__struct_fields__) - {"name"} <= set(theirs.__struct_fields__) | {"name"}


def test_what_was_probed_is_kept_with_its_evidence(tmp_path: Path) -> None:
    path = saved(tmp_path, examination())
    found = read_examined(path)
    assert (found.kernel, found.boots, found.facts.wp.value) == (LINUX, 5, True)
    evidence = found.facts.smep.evidence
    assert evidence.grade is Grade.PROBED
    assert evidence.source == f"{path}: smep (QEMU)" and evidence.detail == "smep"


ARM: dict[str, Any] = dict.fromkeys(("wp", "nx", "smep", "smap", "umip", "ring3_ports")) | {
    "pan": True,
    "architecture": "aarch64",
}


@pytest.mark.parametrize(
    ("changes", "condition", "expected"),
    [
        ({"pan": True}, "kernel:smap-off", CLOSED),
        ({"pan": False}, "kernel:smap-off", OPEN),
        ({"ring0_executable_user_pages": 0}, "kernel:smep-off", CLOSED),
        ({"ring0_executable_user_pages": 3}, "kernel:smep-off", OPEN),
    ],
)
def test_pan_and_pxn_stand_for_smap_and_smep(
    changes: dict[str, Any], condition: str, expected: State, tmp_path: Path
) -> None:
    found = judged(tmp_path, **(ARM | changes))
    assert state(found, condition) == (expected, Grade.PROBED)


def test_without_user_pages_pxn_says_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, **ARM, user_pages=0)
    assert state(found, "kernel:smep-off")[1] is Grade.ASSUMED


def test_an_examination_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, examination())
    document = msgspec.json.decode(path.read_bytes())
    del document["architecture"]
    for name in ("pan", "wxn", "vectors", "ring0_executable_user_pages", "tables_complete"):
        del document["facts"][name]
    path.write_bytes(msgspec.json.encode(document))
    found = read_examined(path)
    assert (found.architecture, found.facts.pan.value) == ("x86_64", None)
    assert found.facts.smep.value is True


@pytest.mark.parametrize(
    ("fact", "value", "condition", "expected"),
    [
        ("smep", True, "kernel:smep-off", CLOSED),
        ("smep", False, "kernel:smep-off", OPEN),
        ("smap", False, "kernel:smap-off", OPEN),
        ("umip", False, "kernel:umip-off", OPEN),
        ("writable_executable_pages", 0, "code:writable-executable", CLOSED),
        ("writable_executable_pages", 3, "code:writable-executable", OPEN),
        ("stack_executable", False, "code:executable-stack", CLOSED),
        ("stack_executable", True, "code:executable-stack", OPEN),
        ("stack_guard_page", True, "code:no-guard-pages", CLOSED),
        ("stack_guard_page", False, "code:no-guard-pages", OPEN),
        ("page_zero_mapped", True, PAGE_ZERO, OPEN),
        ("randomised_bits", result.Bits(user_code=0, user_stack=9), "code:fixed-address", OPEN),
        ("randomised_bits", result.Bits(user_code=9, user_stack=9), "code:fixed-address", CLOSED),
        ("randomised_bits", result.Bits(user_stack=0, user_heap=9), ASLR, OPEN),
        ("randomised_bits", result.Bits(user_stack=9, user_heap=9), ASLR, CLOSED),
        ("randomised_bits", result.Bits(user_stack=0), ASLR, OPEN),
    ],
)
def test_a_probed_fact_replaces_the_template(
    fact: str, value: object, condition: str, expected: State, tmp_path: Path
) -> None:
    assert state(judged(tmp_path, **{fact: value}), condition) == (expected, Grade.PROBED)


@pytest.mark.parametrize(
    ("fact", "condition"),
    [("smep", "kernel:smep-off"), ("stack_executable", "code:executable-stack"),
     ("writable_executable_pages", "code:writable-executable"),
     ("randomised_bits", "code:fixed-address"), ("page_zero_mapped", PAGE_ZERO),
     ("stack_guard_page", "code:no-guard-pages")],
)  # fmt: skip
def test_what_was_not_seen_stays_assumed(fact: str, condition: str, tmp_path: Path) -> None:
    assert state(judged(tmp_path, **{fact: None}), condition)[1] is Grade.ASSUMED


def test_a_stack_that_moves_says_nothing_of_a_heap_that_was_not_told(tmp_path: Path) -> None:
    """With kernel.randomize_va_space at 1 the stack moves, and what follows the data does not."""
    bits = result.Bits(user_stack=2)
    assert state(judged(tmp_path, randomised_bits=bits), ASLR)[1] is Grade.ASSUMED
    unknown = judged(tmp_path, "unknown kernel", randomised_bits=bits)
    assert state(unknown, ASLR)[0] is UNKNOWN
    both = result.Bits(user_stack=2, user_heap=2)
    known = judged(tmp_path, "unknown kernel", randomised_bits=both, ring3_share=0.9)
    assert state(known, ASLR) == (CLOSED, Grade.PROBED)


@pytest.mark.parametrize(
    ("ring", "changes", "condition"),
    [(3, {"writable_executable_pages": None}, "code:writable-executable"),
     (0, {"page_zero_mapped": None}, PAGE_ZERO),
     (3, {"stack_guard_page": None}, "code:no-guard-pages"),
     (3, ARM | {"ring0_executable_user_pages": None}, "kernel:smep-off")],
)  # fmt: skip
def test_what_may_be_in_tables_that_were_not_read_is_unknown(
    ring: int, changes: dict[str, Any], condition: str, tmp_path: Path
) -> None:
    """Whatever the deployment says: of Linux it says that such pages are not there."""
    rings = {"ring3_share": ring / 3, "ring0_share": 1 - ring / 3}
    cut = judged(tmp_path, **(rings | changes), tables_complete=False)
    assert state(cut, condition)[0] is UNKNOWN
    assert "(QEMU" in cut.conditions[condition].evidence[0].source
    unseen = judged(tmp_path, **(rings | changes), tables_complete=None)
    assert "(QEMU" not in unseen.condition(condition, Level.USER).evidence[0].source


def test_ring_3_of_linux_is_probed(tmp_path: Path) -> None:
    found = judged(tmp_path)
    assert found.ring == 3 and state(found, "ring:0") == (CLOSED, Grade.PROBED)
    assert any("vm (" in note for note in found.notes)


def test_ring_0_is_told_only_of_a_guest_that_was_driven(tmp_path: Path) -> None:
    driven = judged(tmp_path, "unknown kernel", ring3_share=0.0, ring0_share=1.0)
    assert driven.ring == 0 and state(driven, "ring:0") == (OPEN, Grade.PROBED)
    assert landing(driven.entry_points[0], driven).level is Level.ADMIN
    idle = judged(tmp_path, "unknown kernel", NOT_DRIVEN, ring3_share=0.0, ring0_share=1.0)
    assert state(idle, "ring:0")[0] is UNKNOWN


def test_a_unikernel_whose_application_is_seen_in_ring_3_lands_there(tmp_path: Path) -> None:
    found = judged(tmp_path, "OSv 0.57", ring3_share=0.7)
    assert found.ring == 3 and state(found, "ring:0") == (CLOSED, Grade.PROBED)
    assert landing(found.entry_points[0], found).level is Level.USER
    usual = judged(tmp_path, "OSv 0.57", ring3_share=0.0, ring0_share=1.0)
    assert landing(usual.entry_points[0], usual).level is Level.ADMIN


@pytest.mark.parametrize(
    ("kernel", "share", "unseen", "expected"),
    [("unknown kernel", 0.016, (), UNKNOWN), ("OSv 0.57", 0.4, (), UNKNOWN),
     ("unknown kernel", 0.5, (), CLOSED), ("unknown kernel", 0.9, NOT_DRIVEN, UNKNOWN),
     (LINUX, 0.04, (), CLOSED), (LINUX, 0.04, NOT_DRIVEN, CLOSED),
     ("Nanos 0.1.55", 0.04, (), CLOSED)],
)  # fmt: skip
def test_ring_3_is_believed_where_what_answers_was_seen_there(
    kernel: str, share: float, unseen: tuple[Unseen, ...], expected: State, tmp_path: Path
) -> None:
    """A kernel that serves in ring 0 with a small helper in ring 3 is not told from one whose
    programs ask it for much, unless its system is known to keep them apart."""
    found = judged(tmp_path, kernel, unseen, ring3_share=share, ring0_share=1 - share)
    assert state(found, "ring:0")[0] is expected
    assert found.ring == (3 if expected is CLOSED else 0)
    assert "system_calls" not in found.counts


def test_of_two_rings_nothing_is_closed_that_is_not_closed_in_both(tmp_path: Path) -> None:
    both = result.Bits(code=9, stack=9, heap=9, user_code=9, user_stack=9, user_heap=9)
    kernels = result.Bits(code=9, stack=9, heap=9, user_code=0, user_stack=9)
    for bits, fixed in ((both, CLOSED), (kernels, OPEN), (result.Bits(user_code=9), UNKNOWN)):
        found = judged(tmp_path, "OSv 0.57", ring3_share=0.1, randomised_bits=bits)
        assert state(found, "code:fixed-address")[0] is fixed
        assert state(found, "code:no-guard-pages")[0] is UNKNOWN
        assert state(found, "code:writable-executable")[0] is CLOSED
    assert state(judged(tmp_path, "OSv 0.57", ring3_share=0.9), "code:no-guard-pages")[0] is CLOSED
    bad = judged(tmp_path, "OSv 0.57", ring3_share=0.1, stack_guard_page=False)
    assert state(bad, "code:no-guard-pages")[0] is OPEN


@pytest.mark.parametrize("kernel", [LINUX, "unknown kernel"])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, CLOSED), ({"user_writable_tables": 2}, OPEN), ({"user_writable_tables": None}, UNKNOWN),
     ({"ring3_ports": True}, OPEN), ({"ring3_ports": None}, CLOSED),
     ({"ring3_ports": True, "ring3_share": 0.1}, OPEN)],
)  # fmt: skip
def test_ring_3_that_owns_the_machine_is_no_boundary(
    kernel: str, changes: dict[str, Any], expected: State, tmp_path: Path
) -> None:
    found = judged(tmp_path, kernel, **({"ring3_share": 0.8} | changes))
    assert state(found, "ring:0")[0] is expected
    assert found.ring == (3 if expected is CLOSED else 0)


@pytest.mark.parametrize(
    ("pages", "aliases", "expected"),
    [(0, 0, CLOSED), (0, 3, OPEN), (3, 0, OPEN), (None, 3, OPEN), (0, None, UNKNOWN)],
)
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_code_that_can_be_written_by_another_name_is_writable(
    share: float, pages: int | None, aliases: int | None, expected: State, tmp_path: Path
) -> None:
    found = judged(tmp_path, "OSv 0.57", ring3_share=share, writable_executable_pages=pages,
                   writable_aliases_of_code=aliases)  # fmt: skip
    assert state(found, "code:writable-executable")[0] is expected


@pytest.mark.parametrize(
    "changes", [{"smap": None}, ARM | {"pan": None}], ids=["x86_64", "aarch64"]
)
def test_a_protection_that_may_be_suspended_is_unknown(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """Whatever the deployment says: of Linux it says that it is on."""
    assert state(judged(tmp_path, **changes), "kernel:smap-off")[0] is UNKNOWN


def test_in_ring_0_the_kernels_addresses_are_the_applications(tmp_path: Path) -> None:
    bits = result.Bits(code=0, stack=3, heap=2, user_code=9, user_stack=9, user_heap=9)
    below = judged(tmp_path, "OSv 0.57", ring3_share=0.0, ring0_share=1.0, randomised_bits=bits)
    assert state(below, "code:fixed-address")[0] is OPEN
    assert state(judged(tmp_path, randomised_bits=bits), "code:fixed-address")[0] is CLOSED


def test_without_write_protection_ring_0_writes_all_of_its_code(tmp_path: Path) -> None:
    for ring3, expected in ((0.0, OPEN), (0.1, OPEN), (0.6, CLOSED)):
        found = judged(tmp_path, "OSv 0.57", wp=False, ring3_share=ring3, ring0_share=1 - ring3)
        assert state(found, "code:writable-executable")[0] is expected


def test_page_zero_is_closed_where_no_program_could_map_it(tmp_path: Path) -> None:
    alone = judged(tmp_path, "OSv 0.57", ring3_share=0.0, ring0_share=1.0)
    assert state(alone, PAGE_ZERO) == (CLOSED, Grade.PROBED)
    assert state(judged(tmp_path), PAGE_ZERO)[1] is Grade.ASSUMED


def test_devices_that_are_driven_are_open(tmp_path: Path) -> None:
    devices = (
        Device("virtio-net", 9, 5, True), Device("i8042-cmd", 100, 0), Device("serial", 1, 1),
        Device("virtio-rng", 3, 0, False), Device("acpi-tmr", 1, 7), Device("nobody-knows", 1, 9),
    )  # fmt: skip
    found = judged(tmp_path, "OSv 0.57", devices=devices)
    probed = {
        name.removeprefix("device:")
        for name in found.conditions
        if name.startswith("device:") and state(found, name)[1] is Grade.PROBED
    }
    assert probed == {"virtio-net", "serial-8250", "acpi-pm"}
    # Given by the deployment, touched while booting alone: still assumed, and still open.
    assert state(judged(tmp_path, devices=devices), "device:i8042") == (OPEN, Grade.ASSUMED)


def test_of_an_unknown_kernel_only_the_probed_is_known(tmp_path: Path) -> None:
    found = judged(tmp_path, "unknown kernel")
    assert state(found, "kernel:smep-off") == (CLOSED, Grade.PROBED)
    assert state(found, "code:no-canary")[0] is UNKNOWN


def test_probed_facts_count_in_the_coverage(tmp_path: Path) -> None:
    def share(*devices: Device) -> float:
        found = examination("OSv 0.57", ring3_share=0.0, ring0_share=1.0, devices=devices)
        facts = collect(str(saved(tmp_path, found)), KNOWLEDGE)
        asked = Asked(KNOWLEDGE.scales["classic"])
        deployment = deployment_of(facts, KNOWLEDGE)
        return measure(facts.target, deployment, KNOWLEDGE, asked).evidence_coverage.probed

    assert share() < share(Device("virtio-net", 9, 5, True))


@pytest.mark.parametrize(
    "text",
    ["{", '{"schema": 1, "image": "x", "accelerator": "tcg"}', "[]", "", '{"schema": 1}',
     '{"schema": 1, "image": "", "accelerator": "", "facts": {"wp": 7}}'],
)  # fmt: skip
def test_what_is_no_examination_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_text(text)
    with pytest.raises(InputError):
        read_examined(path)


def test_another_schema_is_refused_and_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path, msgspec.structs.replace(examination(), schema=2))
    with pytest.raises(InputError, match="schema 2"):
        read_examined(path)


def test_large_files_and_other_json_are_not_taken_for_one(tmp_path: Path) -> None:
    path = saved(tmp_path, examination())
    assert accepts(str(path))
    with path.open("ab") as file:
        file.write(b" " * MOST)
    with pytest.raises(InputError, match="larger than"):
        read_examined(path)
    other = tmp_path / "package.json"
    other.write_text('{"name": "x", "schema": 1}')
    assert not accepts(str(other)) and not accepts(str(tmp_path))


def test_compare_takes_it_beside_others_for_the_same_service(tmp_path: Path) -> None:
    path = saved(tmp_path, examination())
    example = Path(__file__).parents[4] / "examples" / "1-general-purpose-server.toml"
    done = ringfence("compare", example, path, "--targets-only", "--format", "json", "--no-plan")
    assert done.code == 0, done.err
    first, second = msgspec.json.decode(done.out)["measurements"]
    assert second["target"]["kind"] == "examined"
    assert [point["id"] for point in first["entry_points"]] == [
        point["id"] for point in second["entry_points"]
    ]
    alone = ringfence("measure", path, "--format", "json", "--no-plan")
    (point,) = msgspec.json.decode(alone.out)["entry_points"]
    assert point["id"] == "tcp:unstated"


def test_what_surrounds_the_service_elsewhere_is_not_in_the_guest() -> None:
    """Kernel and files are those of the other target; code and entry points go along."""
    seen = Condition(CLOSED, (Evidence(Grade.OBSERVED, "/proc/config.gz"),))
    names = ("feature:bpf", "sysctl:kernel.kptr_restrict<=0", "kernel:lockdown-off", "file:shell",
             "code:no-canary")  # fmt: skip
    service = msgspec.structs.replace(
        service_alone("web", (supposed_point("web"),)), conditions=dict.fromkeys(names, seen)
    )
    guest = msgspec.json.decode(msgspec.json.encode(
        {"name": "g.json"} | msgspec.to_builtins(examination())), type=model.ExaminedGuest
    )  # fmt: skip
    found = examined_deployment(guest, KNOWLEDGE, service)
    alone = examined_deployment(guest, KNOWLEDGE)
    for name in names[:-1]:
        assert found.conditions[name] == alone.conditions[name], name
        assert found.conditions[name].evidence[0].grade is Grade.ASSUMED
        assert "/proc" not in str(found.conditions[name].evidence)
    assert found.conditions["code:no-canary"] == seen


@pytest.mark.parametrize("kernel", [LINUX, "unknown kernel"])
def test_compare_is_the_same_in_any_order_and_counts_nothing_of_another_target(
    kernel: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, examination(kernel))
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/bin/sh").write_bytes(b"#!")
    found = []
    for targets in ((tmp_path / "tree", path), (path, tmp_path / "tree")):
        done = ringfence("compare", *targets, "--targets-only", "--format", "json", "--no-plan")
        document = msgspec.json.decode(done.out)
        found.append({item["target"]["kind"]: item for item in document["measurements"]})
        assert {item["start"] for item in document["measurements"]} == {"internet"}
    assert found[0] == found[1]
    assert found[0]["rootfs"]["counts"]["files"]["value"] == 1
    assert not {"files", "bytes", "executables", "system_calls"} & set(
        found[0]["examined"]["counts"]
    )
