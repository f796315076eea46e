"""Recorded sessions on disk: finding, describing, verifying, exporting and deleting them.

Modules in reading order; each imports only those below it:

- ``bids``: export as a BIDS data set (a package)
- ``tables``: export as tables of windows and of trials
- ``deletion``: deletion of a session and of everything made from it
- ``sessions``: finding, describing and listing sessions
- ``verify``: verification of a session by recomputing it
"""
