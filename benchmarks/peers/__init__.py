"""Other systems, timed beside this one on the same machine: ``python -m benchmarks.peers``.

Each runs in a virtual environment of its own under ``.cache/peers``, with pinned versions, from a
worker script that imports nothing of this project.
"""
