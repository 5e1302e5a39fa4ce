"""Baselines: what every file of a target was, sealed, and what has changed since.

`walk` lists a live tree, worker processes (`pool`, `work`) look at its files (`looking`), and
`store` keeps the records in order; `archive` does the same for images. `compare` and `severity`
are pure. `aide` reads what AIDE keeps.
"""
