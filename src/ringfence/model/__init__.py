"""What the words of docs/measure.md are: frozen records, with no behaviour beyond their invariants.

Imports nothing but msgspec and the standard library; reads no file and knows no tool. To add a
kind of raw fact, copy `kernel.py`; to add a word of the measure, copy `position.py`.
"""
