"""The WebSocket protocol ``clmer.v1``: the messages of the service and of its clients.

Modules in reading order; each imports only those below it:

- ``asyncapi``: the protocol as an AsyncAPI document
- ``inbound``: the messages of clients
- ``encoding``: messages as JSON and MessagePack
- ``outbound``: the messages of the service
- ``codes``: names and codes, each with its meaning
- ``parts``: what several messages share, and the prediction
"""
