"""The smallest unprivileged container that still does the whole job, with policies.

Finds out what an application uses (`binary`, `keep`, `observe`), writes an image of just that
(`image`) and policies for the host's mechanisms (`policy`: one module a language), runs it again
inside the fence and compares (`retest`). May use model, knowledge, collect, measure and run.
"""
