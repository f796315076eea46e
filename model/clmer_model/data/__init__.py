"""Labelled windows: from recordings with their tables, from arrays, and from simulated people.

Modules in reading order; each imports only modules below it in this list:

- ``prepare``: a window store from recordings or arrays (``clmer prepare``).
- ``montage``: the EEG channels of a data set.
- ``store``: the window store on disk.
- ``sessions``: one recording, read through the live signal path.
- ``tables``: ``manifest.csv`` and ``trials.csv``.
- ``features``: band powers and means of windows, for classifiers without a network.
- ``simulated``: examples of simulated people, in a cache.
- ``examples``: windows with labels, as arrays.
"""
