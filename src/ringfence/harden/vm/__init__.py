"""A virtual machine of the hardened service: its files and a small init as an initial RAM disk.

`cpio` writes the archive, `modules` finds the drivers that a stock kernel keeps apart, `settings`
says what the init (`init.c`, made into a static program by `program`) has to do, `pack` puts it
all together. May import what `harden` may. The machine is examined by `ringfence guest`.
"""
