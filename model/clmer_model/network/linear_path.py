"""The linear path: from the log band powers of EEG straight to the logits, beside the network.

It starts as a regularized logistic regression on the training windows, so that the network begins at that baseline.
"""

import torch
from torch import Tensor, nn

from clmer_model.config import ModalitySpec
from clmer_model.network.encoder import BANDS, SFREQ

MIN_TOTAL_POWER = 1e-6  # squared microvolts; keeps the logarithm finite


class LinearPath(nn.Module):
    """Maps the standardized log power of each channel and band, over the whole window, to logits.

    A channel that was not measured counts as average. Power is the sum of the squared Fourier coefficients of a band,
    from its lower edge up to, but without, its upper edge.

    Args:
        spec: Of the EEG: (C, T) microvolts at 128 Hz.
        n_classes: Number of classes, K.
    """

    basis: Tensor
    in_band: Tensor
    mean: Tensor
    sd: Tensor

    def __init__(self, spec: ModalitySpec, n_classes: int) -> None:
        super().__init__()
        n_channels, n_times = spec.shape
        self.floor = MIN_TOTAL_POWER
        basis, in_band = fourier_bands(n_times)
        self.register_buffer("basis", basis)
        self.register_buffer("in_band", in_band)
        self.register_buffer("mean", torch.zeros(n_channels, len(BANDS)))
        self.register_buffer("sd", torch.ones(n_channels, len(BANDS)))
        self.out = nn.Linear(n_channels * len(BANDS), n_classes)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return logits (B, K) from x (B, C, T) and mask (B, C)."""
        logits: Tensor = self.out(self.features(x, mask))
        return logits

    def features(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return standardized features (B, C * bands); 0 where a channel was not measured."""
        standard = (self.log_powers(x, mask) - self.mean) / self.sd
        return torch.where(mask.unsqueeze(2), standard, torch.zeros_like(standard)).flatten(1)

    def log_powers(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the log powers (B, C, bands) of channels that were measured; without meaning for others."""
        x = torch.where(mask.unsqueeze(2), x, torch.zeros_like(x))
        return torch.log(torch.matmul(torch.matmul(x, self.basis).square(), self.in_band) + self.floor)


def fourier_bands(n_times: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (T, n), and which of them belong to each band (n, bands) as 0 and 1.

    They are scaled so that a band's sum of squares is its mean power.
    """
    hz = torch.arange(n_times // 2 + 1, dtype=torch.float64) * SFREQ / n_times
    used = hz[(hz >= BANDS[0][0]) & (hz < BANDS[-1][1])]
    angle = 2 * torch.pi * torch.arange(n_times, dtype=torch.float64).unsqueeze(1) * used / SFREQ
    basis = torch.cat([angle.cos(), angle.sin()], dim=1) * (2**0.5 / n_times)
    bands = torch.stack([(used >= low) & (used < high) for low, high in BANDS], dim=1).repeat(2, 1)
    return basis.float(), bands.float()
