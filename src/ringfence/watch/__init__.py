"""Sees unauthorized change: sealed baselines, checks against them, and the ledger.

May use model, collect and errors; never judges a deployment. A new kind of target for baselines
is a row in `baseline/targets.py` and, where it is no live tree, a module like `archive.py`.
"""
