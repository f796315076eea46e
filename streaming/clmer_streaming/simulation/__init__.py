"""Simulated sessions of simulated people: EEG, faces and markers, with known emotion.

Modules in reading order; each imports only those below it:

- ``session``: a whole session, its items, and its recording
- ``face``: action units, and the stream that a camera makes of them
- ``eeg``: brain activity, blinks, artifacts and digitization
- ``trials``: trials, markers, and the emotion of each second
- ``participant``: the traits of a person
- ``config``: settings, presets and random number generators
"""
