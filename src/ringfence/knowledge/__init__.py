"""What is known, as data: mechanisms, vectors, interface families, attackers, scales, deployments.

Everything here is TOML (or JSON) with sources; `records.py` says what an entry is, `loader.py`
reads and checks all of it at load. No judgement and no system access. To add an entry, add a
table to a file of its folder; no code changes. May import `model`.
"""
