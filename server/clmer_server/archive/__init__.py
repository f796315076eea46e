"""Recorded sessions on disk: found, described, verified, exported and deleted.

Modules in reading order; each imports only those below it:

- ``bids``: export as a BIDS data set (a package)
- ``tables``: export as tables of windows and of trials
- ``deletion``: deleting a session with all that was made from it
- ``sessions``: finding and describing sessions
- ``verify``: recomputing a session
"""
