"""The network; ``clmer_model.config`` holds its sizes.

Modules in reading order; each imports only modules below it in this list:

- ``clmer``: the whole model, ``Clmer``: attention over ordered pairs of modalities, and the classifier.
- ``linear_path``: from log band powers straight to the logits.
- ``encoder``: one convolutional encoder for every modality, from windows to tokens.
- ``normalization``: masked values to zero, everything else to a common scale.

TorchScript compiles these modules and evaluates their annotations: they must not import annotations from
``__future__``. Global constants are read in constructors and default arguments only, since a compiled method cannot
read them.
"""
