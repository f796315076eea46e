"""Export of a recorded session into a BIDS data set.

Modules in reading order; each imports only those below it:

- ``export``: one session: EEG, events, face, physiological signals, predictions
- ``motion``: the face, as a tracking system of Motion-BIDS
- ``layout``: files at the top of a data set, names of a session's files, runs
- ``eeg``: signals on an even grid, events, EDF, channels
"""
