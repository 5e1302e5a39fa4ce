"""One module a kind of target; each reads, and gives Facts with evidence. Collectors never judge.

May import `model` and `knowledge` (for the lists of what to look at). To add a kind of target,
write a module with `KIND`, `accepts(target)` and `collect(target, knowledge)` and add its row to
`targets.py`.
"""
