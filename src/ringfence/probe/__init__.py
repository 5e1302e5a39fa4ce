"""Assume breach: what code of the attacker's could do next in a live workload, tried for real.

A process that stands where the workload stands (`join`, or a clone of the workload's own process:
`inject`) is driven from outside, one system call at a time (`driven`); what its seccomp filters
say is asked of the kernel without making the call (`oracle`). `battery/` holds the probes, one
file a group: to add one, copy `battery/kernel.py`. Harmless by construction: each probe's
docstring says why. May use model, knowledge, collect, measure and run.
"""
