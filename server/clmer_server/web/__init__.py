"""HTTP and WebSocket around the sessions.

Modules in reading order; each imports only those below it:

- ``startup``: everything is checked and loaded, then served
- ``service``: the running service, from the start to the last message
- ``status_line``: what the service waits for, in one line of a terminal
- ``app``: the web application
- ``sessions_api``: sessions over HTTP
- ``websocket``: one WebSocket connection
- ``requests``: the requests of one client
- ``middleware``: who may connect, and the security headers
- ``uvicorn``: connections that can be ended, whatever the other side does
- ``auth``: tokens, certificates, and who may connect
- ``limits``: how much clients may ask for
"""
