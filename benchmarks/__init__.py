"""Benchmarks: programs that measure one thing each and print their figures; run as ``python -m benchmarks.NAME``.

- ``pipeline``: signal path and model, from a sample to a probability.
- ``model``: size and speed of the networks.
- ``gpu``: the shipped model on a GPU; stands alone, with torch and numpy only.
- ``faces``: the face extractor.
- ``clock``: time stamps behind lost samples.
- ``streams``: LSL streams to windows, playback and replay.
- ``server``: predictions to WebSocket clients.
- ``comparison``: networks trained alike and compared.
- ``eye_state``: eyes open against closed in a real recording.
- ``appearance_cues``: action units from the texture of the skin.
- ``support``: what several of them share.
"""
