"""Decides conditions from raw facts: one file a group of kinds, one row each in `registry.py`.

Every decision is a `Condition`: open, closed or unknown, with the evidence it was read from. A
fact that could not be seen is `unknown`, never guessed.
"""
