"""Where records go besides the ledger: one file a place. To add one, copy `journald.py` and name
it in `choose.py`. A sink may fail: `delivery.py` then says so in the ledger, and nothing waits.
"""
