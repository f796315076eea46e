"""Sources of items beside the network: cameras, videos and recordings.

Modules in reading order; each imports only those below it:

- ``camera``: the face in front of a camera, live
- ``session_replay``: a session that CLMER recorded
- ``replay``: a foreign recording, with or without a video beside it
- ``replay_streams``: the streams of a foreign recording, and when their items are due
- ``video``: the faces of a video, and when its frames were taken
- ``transform``: changes to the items of any source on their way
"""
