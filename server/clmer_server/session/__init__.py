"""Sessions of participants: from their sources to their events, one run or many, one session or several.

Modules in reading order; each imports only those below it:

- ``manager``: all sessions of a service
- ``managed``: one session over all its runs
- ``session``: one run: its threads, and how it ends
- ``pipeline``: the parts that its pipeline thread works with
- ``calibration``: what clients may change while it runs
- ``inputs``: its sources
- ``sink``: where its events go
- ``recorder``: its recording
- ``config``: what it is to do, from the settings of the service
- ``events``: from windows and predictions to messages
- ``inference``: the model, and the thread that runs it for all sessions
"""
