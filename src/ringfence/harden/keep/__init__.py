"""Which files stay, and why: one module a kind of knowledge, each adding paths with a reason.

What a run opened (`observed`) and what files themselves say they need are united, so that what an
exercise did not touch is not lost. To teach it another language, copy `shell.py` and name it in
`everything.py`.
"""
