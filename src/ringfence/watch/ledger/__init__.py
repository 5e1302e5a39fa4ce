"""An append-only log of what Ringfence saw and did: hash-chained, in a Merkle tree, signed.

`writer.Ledger` appends, `verify.verify` finds the first broken place, `proofs` convince somebody
outside; the format is docs/ledger.md. `record`, `tree`, `checkpoint`, `chain`, `verify`, `proofs`
and `audit` are pure; `segments`, `tail`, `clock` and `sinks` are the edges. May use model,
collect and errors. One more place to send records to: copy `sinks/journald.py`.
"""
