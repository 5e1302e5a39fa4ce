"""Boots virtual machine and unikernel images under QEMU and examines them from outside.

One way for data: *image* (what kind of file) → *machine* and *confine* (QEMU's command line) →
*boot* (one run: *monitor*, *sample*, *exercise*) → *facts* over all boots → *report*. What decides
is pure and takes texts and bytes (registers, paging, regions, layout, devices, facts); what touches
QEMU is thin. May use model, knowledge and collect; never changes the guest. To read one more thing
from a guest, copy `devices.py` and give it a field in `result.py`.
"""
