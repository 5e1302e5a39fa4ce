"""What /proc shows of a live process: one module a subject, `tree.py` puts them together."""
