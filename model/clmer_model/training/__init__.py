"""Offline training and evaluation.

Modules in reading order; each imports only modules below it in this list:

- ``provenance``: files that were derived from a recording, to be found and removed.
- ``compare``: estimators compared over the four kinds of split.
- ``estimators``: the network and baselines of scikit-learn, trained and asked alike.
- ``train``: a whole training, from windows to a checkpoint.
- ``fit``: the supervised stage.
- ``contrastive``: the contrastive stage.
- ``calibrate``: temperature, the network's share beside the linear path, and prediction sets.
- ``evaluate``: scores and intervals.
- ``augment``: augmentations of windows.
- ``optimizer``: optimization steps and the state to resume from.
- ``splits``: training, validation and test set.
- ``distributed``: several processes in one training.
- ``config``: settings, and the recipes of the presets.
"""
