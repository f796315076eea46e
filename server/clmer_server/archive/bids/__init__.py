"""Export of a recorded session as a part of a BIDS data set.

Modules in reading order; each imports only those below it:

- ``export``: one session: EEG, events, further physiological signals, predictions
- ``motion``: the face, as Motion-BIDS describes tracking systems
- ``layout``: the files at the top of a data set, names and runs
- ``eeg``: signals on an even grid, events, EDF
"""
