"""How results look: one module a format, each with `NAME` and functions from records to text.

Formats see only the result (and the knowledge base for titles) and compute nothing. To add one,
copy `json_format.py` and add its row to `cli/rendering.py`.
"""
