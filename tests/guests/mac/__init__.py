"""A stock Debian kernel with AppArmor, SELinux or IMA around a hardened service.

`machine.booted` starts the virtual machine that `ringfence harden --as vm` made, with a second
archive laid over it: `init.c` loads a policy before our own init goes to work, `confine.c` puts
the service under it, `base.cil` is what a SELinux module needs around itself. Nothing of this is
part of Ringfence; it is here because this host's kernel has none of these.
"""
