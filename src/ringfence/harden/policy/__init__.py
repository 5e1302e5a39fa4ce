"""Policies for the host's mechanisms, one module a language, all from the same `Needs`.

To add one, copy `landlock.py`, and name it in `languages.py`.
"""
