"""The measure: facts and knowledge to deployment, vectors, graph, surface, depth and plan.

Pure functions; nothing here reads the system. May import `model` and `knowledge`. To decide a
new kind of condition, add one file to `conditions/`.
"""
