"""The processor's state as QEMU 7.2 prints it, in long mode and in real mode."""

from __future__ import annotations

from ringfence.guest.arch.x86 import FIVE_LEVEL, parse
from ringfence.guest.paging import NO_EXECUTE, USER, Root

LONG = """
CPU#0
RAX=000000000001ad40 RBX=0000000000000000 RCX=0000000000000000 RDX=4000000000000000
RSI=0000000000000083 RDI=00000000000000b4 RBP=ffffffffbb61aa40 RSP=ffffffffbb603e98
RIP=ffffffffba617a0b RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]
SS =0018 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
TR =0040 fffffe0000003000 00004087 00008900 DPL=0 TSS64-avl
GDT=     fffffe0000001000 0000007f
IDT=     fffffe0000000000 00000fff
CR0=80050033 CR2=00000000005eaeb0 CR3=000000000295e001 CR4=00751eb0
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000d01
FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80
"""
REAL = """
CPU#0
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00007000
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
CS =f000 ffff0000 0000ffff 00009b00
SS =0000 00000000 0000ffff 00009300
GDT=     00000000 0000ffff
IDT=     00000000 000003ff
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
EFER=0000000000000000
"""


def test_long_mode_while_halted() -> None:
    state = parse(LONG)
    assert state is not None
    assert (state.ring, state.halted, state.paged) == (0, True, True)
    assert (state.ip, state.sp) == (0xFFFFFFFFBA617A0B, 0xFFFFFFFFBB603E98)
    assert state.roots == (Root(0x295E000, FIVE_LEVEL, signed=True),)
    assert state.tables == (0xFFFFFE0000000000, 0xFFFFFE0000001000)
    assert state.switches == {"wp", "nx", "smep", "smap", "umip"}
    assert NO_EXECUTE not in state.executes and USER not in state.executes
    assert USER in state.user_executes and USER | NO_EXECUTE not in state.user_executes


def test_flags_and_lengths_of_tables() -> None:
    """RFL has IF, ZF, PF: no AC, IOPL 0, which ring 0 does not ask."""
    for flags, ring, lifted, ports in (
        ("00000246", 0, False, True), ("00040246", 0, True, True), ("00000246", 3, False, False),
        ("00003246", 3, False, True), ("00002246", 3, False, False), ("00043246", 3, True, True),
    ):  # fmt: skip
        state = parse(LONG.replace("RFL=00000246", f"RFL={flags}").replace("CPL=0", f"CPL={ring}"))
        assert state is not None
        assert (state.ring, state.lifted, state.ports) == (ring, lifted, ports)
        assert state.lengths == (0x1000, 0x80)


def test_real_mode_while_running() -> None:
    state = parse(REAL)
    assert state is not None
    assert (state.ip, state.sp, state.halted) == (0xFFFFFFF0, 0x7000, False)
    assert (state.paged, state.roots, state.switches) == (False, (), frozenset())
    assert NO_EXECUTE in state.executes and USER in state.executes


def test_pointers_are_linear_outside_of_64_bit_code() -> None:
    """A kernel of 32 bits whose stack's segment begins elsewhere; the same with a 16-bit stack,
    whose pointer's upper half does not count; in 64-bit code no base does."""
    real = "SS =0000 00000000 0000ffff 00009300"
    flat = REAL.replace(
        "CS =f000 ffff0000 0000ffff 00009b00", "CS =0008 00000000 ffffffff 00cf9b00"
    )
    for descriptor, sp, linear in (
        ("00200000 ffffffff 00cf9300", "00001000", 0x201000),
        ("00200000 0000ffff 00009300", "00011000", 0x201000),
        ("fffff000 ffffffff 00cf9300", "00002000", 0x1000),
    ):
        text = flat.replace(real, f"SS =0010 {descriptor} DPL=0 DS [-WA]")
        state = parse(text.replace("ESP=00007000", f"ESP={sp}"))
        assert state is not None
        assert (state.ip, state.sp) == (0xFFF0, linear)
    based = LONG.replace("SS =0018 0000000000000000", "SS =0018 0000000000200000")
    state = parse(based)
    assert state is not None and state.sp == 0xFFFFFFFFBB603E98
    compatible = parse(based.replace("00af9b00", "00cf9b00"))
    assert compatible is not None and compatible.sp == 0xBB803E98


def test_pae_root_is_aligned_to_32_bytes() -> None:
    text = REAL.replace("CR3=00000000 CR4=00000000", "CR3=12345678 CR4=00000020")
    state = parse(text.replace("CR0=60000010", "CR0=80000011"))
    assert state is not None
    assert state.space == (0x12345660,)


def test_the_first_processor_counts() -> None:
    state = parse(LONG + LONG.replace("CPL=0", "CPL=3").replace("CPU#0", "CPU#1"))
    assert state is not None
    assert state.ring == 0


def test_other_text_is_no_state() -> None:
    assert parse("") is None
    assert parse(LONG.replace("EFER", "NEVER")) is None
