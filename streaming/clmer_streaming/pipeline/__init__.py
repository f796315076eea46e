"""The signal path: from the items of sources to the windows that a model sees.

Modules in reading order; each imports only those below it:

- ``preprocess``: the preprocessor, which holds a track for each stream and closes windows
- ``window``: a window put together from its series
- ``baseline``: a participant's EEG at rest, and EEG normalized by it
- ``sampled``: the track of EEG and of further signals
- ``slotted``: the track of the face and of series on slots
- ``track``: the interface of both
- ``liveness``: whether the samples of a stream arrive
- ``timeline``: the times of samples, and lateness told from loss
- ``sample_clock``: from a sample's index to its time, by stamps that may be late
- ``rate``: the rate at which a stream really runs
- ``counter``: the packet counter of a stream, and the losses that it proves
- ``quality``: which EEG channels can be trusted
- ``filters``: causal filters and resampling
- ``channels``: from a stream's channels and units to the model's
- ``buffer``: the latest samples of a signal
"""
