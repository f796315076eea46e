"""Recorded sessions: what a Preprocessor was fed, in that order, as XDF; written, and read back bit for bit."""
