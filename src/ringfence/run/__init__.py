"""Starts workloads through an existing engine, inside the fence, and watches what it refuses.

Not a container runtime: runc or crun do that. May use model and collect.
"""
