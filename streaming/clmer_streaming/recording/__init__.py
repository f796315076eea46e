"""Recorded sessions: what a Preprocessor was fed, in that order, as XDF; written, and read bit for bit.

Modules in reading order; each imports only those below it:

- ``writer``: writing a session
- ``reader``: reading a session, as items or without its samples
- ``records``: the JSON records, and the format of the file
"""
