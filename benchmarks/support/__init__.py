"""Code that several benchmarks share.

- ``report``: options, tables and machine-readable rows of every benchmark.
- ``intervals``: bootstrap intervals of scores.
- ``streams``: an LSL network of one's own, child processes, and a headset.
- ``clients``: light WebSocket clients.
- ``networks``: networks that CLMER is compared with.
"""
