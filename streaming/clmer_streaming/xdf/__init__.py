"""XDF 1.0 files: reading, writing and inspecting them.

Modules in reading order; each imports only those below it:

- ``inspect``: the rates, clocks and faults of a recording
- ``spacing``: the spacing of a stream's samples, as the signal path finds it
- ``reader``: reading a file as a whole, on the recorder's clock
- ``clock``: from the stamps of the senders to the clock of the recorder
- ``samples``: the samples of a stream, decoded when they are asked for
- ``writer``: writing a file
- ``scan``: one pass over a file, chunk by chunk, past damage
- ``chunks``: the chunks of a file, read piece by piece
- ``header``: the XML of headers and footers
- ``format``: constants and length fields
"""
