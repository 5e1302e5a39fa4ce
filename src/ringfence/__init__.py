"""Ringfence measures and shrinks the attack surface of an application as it is really deployed.

Rooms, and the one direction in which they import: `model`, then `knowledge`, `collect` and
`measure`, then `run`, then `harden`, `probe`, `guest` and `watch`, then `report`, then `cli`. The
definition of every number is in docs/measure.md.
"""

__version__ = "0.1.0"
