"""One look at a processor, in the terms that the architectures share."""

from __future__ import annotations

import msgspec

from ringfence.guest.paging import RIGHTS, USER, WRITE, Root

ALL_RIGHTS = frozenset(range(RIGHTS))
WRITABLE = frozenset(rights for rights in ALL_RIGHTS if rights & WRITE)
"""By the tables' own bit. With CR0.WP off ring 0 writes the other pages, too: a fact of its own."""
USERS = frozenset(rights for rights in ALL_RIGHTS if rights & USER)


class Registers(msgspec.Struct, frozen=True, kw_only=True):
    """The processor as one sample shows it. A module of `arch` makes it.

    `ring`: 3 where programs run, 0 where kernels do (of aarch64 EL0 and EL1). `halted`: it waits
    for an interrupt. `ip`, `sp`: linear addresses. `roots`: the page tables in force, none where
    paging is off; `unread` says why where it is on and its tables are of no form that is known.
    `tables`: where the architecture's own tables lie, in the order of Architecture.tables, and
    `lengths` their bytes. `switches`: those of Architecture.switches that are on. `lifted`: what
    Architecture.lifted names is suspended now. `ports`: this ring may use all ports of devices,
    whatever it is. `executes`, `user_executes`: the rights
    of pages whose code rings 0 and 3 can execute.
    """

    ring: int
    halted: bool
    ip: int
    sp: int
    paged: bool
    roots: tuple[Root, ...]
    tables: tuple[int, ...]
    lengths: tuple[int, ...]
    switches: frozenset[str]
    lifted: bool
    ports: bool
    executes: frozenset[int]
    user_executes: frozenset[int]
    unread: str = ""

    @property
    def space(self) -> tuple[int, ...]:
        """What tells this address space from others: where its top tables stand."""
        return tuple(root.table for root in self.roots)

    @property
    def code(self) -> frozenset[int]:
        """The rights with which a page can be executed at all."""
        return self.executes | (self.user_executes & USERS)

    @property
    def both(self) -> frozenset[int]:
        """The rights with which one ring can write and execute a page."""
        return WRITABLE & self.code
