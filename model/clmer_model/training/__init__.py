"""Offline training: examples from sessions, pre-training, fusion training, scores."""
