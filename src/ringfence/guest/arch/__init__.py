"""What is an architecture's own: QEMU's machine, registers and page tables, one module each.

To add one: copy `aarch64.py`, give it a row in `known.py`, and the kinds of image that it starts
one in `guest/kinds.py`. May import what `guest` may, and of `guest` what all architectures share.
"""
