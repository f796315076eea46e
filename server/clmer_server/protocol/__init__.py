"""The WebSocket protocol ``clmer.v1``: what the service and its clients say to each other."""
