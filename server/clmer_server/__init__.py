"""The service and the command line: sessions, hub, HTTP and WebSocket, recorded sessions, dashboard.

Modules and packages in reading order; each imports only those below it:

- ``commands``: one module for each command of ``clmer``, and ``clmer-serve``
- ``web``: HTTP and WebSocket around the sessions
- ``archive``: recorded sessions on disk
- ``session``: sessions of participants, from their sources to their events
- ``hub``: hands the messages of a session to its clients
- ``send_queue``: the messages that wait for one client
- ``metrics``: numbers for monitoring systems
- ``participants``: what is kept of participants from session to session
- ``protocol``: the messages of the WebSocket protocol
- ``settings``: the options of the service and of its sessions, each defined once
- ``logs``: the program's log
- ``cli``: the command line

``dashboard`` holds the page, its scripts and styles.
"""
