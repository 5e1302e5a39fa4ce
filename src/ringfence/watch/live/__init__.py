"""Watching in real time: who changed which file, judged by a baseline; and which code may run.

`fanotify` and `handles` are the kernel's interface, `events` parses what it says (pure), `places`
knows where a folder is, `marks` sets the marks, `who` asks who did it, by what `looks` sees of a
process and `execs` hears of others, `judge` holds a file against its baseline, `told` makes records
and lines (pure), `loop` puts it together, `rescan` runs full checks. Enforcement: `enforce` is the
watcher's end of it, `standby` and `decider` are processes of their own, `verdict` and `allowed` say
what may run. May use model, collect, errors, baseline and ledger. docs/watch.md says what is
covered and what is not.
"""
