"""Lab Streaming Layer: finding, reading and publishing streams; the only package that imports pylsl.

Modules in reading order; each imports only those below it:

- ``sources``: the live sources of EEG and faces
- ``extra``: the source of all other streams of the network
- ``inlet``: reading one stream, through every loss of it
- ``markers``: markers from the rows of marker streams
- ``discovery``: listing the streams of the network and what they are good for
- ``resolve``: stream queries, and claims of several sessions
- ``player``: publishing a recording
- ``outlets``: CLMER's own streams
- ``loopback``: testing LSL on this computer
- ``setup``: loading pylsl and configuring liblsl
"""
