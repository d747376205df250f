"""Regressors that show how much a representation tells: linear (ridge) and a small network (MLP).

Both choose how strongly they are held back on groups of samples, such as episodes, that they are not fitted
on. N samples, F features, D outputs.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

PENALTIES = tuple(10.0**power for power in range(-2, 6))
"""Of the squared coefficients, per sample, features and outputs having unit variance."""

VALIDATION = 5
"""One group in so many is left out to choose by."""

WIDTH, STEPS, BATCH = 256, 600, 512
CHECK_EVERY, PATIENCE = 20, 5
"""Steps between looks at the groups left out, and after how many looks without progress to stop."""

Regressor = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(features (N, F), targets (N, D), groups (N,), new features (M, F)) -> predictions (M, D)."""


class _Scale:
    """Unit variance and zero mean; constant columns become zero."""

    def __init__(self, values: np.ndarray) -> None:
        self.mean = values.mean(0)
        deviation = values.std(0)
        self.deviation = np.where(deviation > 1e-8 * (1 + np.abs(self.mean)), deviation, np.inf)

    def apply(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.deviation

    def undo(self, values: np.ndarray) -> np.ndarray:
        return values * np.where(np.isfinite(self.deviation), self.deviation, 0.0) + self.mean


def left_out(groups: np.ndarray) -> np.ndarray:
    """Which samples to choose by: every `VALIDATION`-th group of those that are there; (N,) bool."""
    return np.isin(groups, np.unique(groups)[:: min(VALIDATION, max(2, len(np.unique(groups))))])


def ridge(features: np.ndarray, targets: np.ndarray, groups: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Linear least squares with the penalty that does best on the groups left out, fitted again on all."""
    apart = left_out(groups)
    candidates = _ridge_path(features[~apart], targets[~apart], features[apart], PENALTIES)
    scale = _Scale(targets[~apart])
    errors = [np.square(scale.apply(targets[apart]) - scale.apply(found)).mean() for found in candidates]
    best = PENALTIES[int(np.argmin(errors))]
    return next(iter(_ridge_path(features, targets, new, [best])))


def _ridge_path(
    features: np.ndarray, targets: np.ndarray, new: np.ndarray, penalties: Iterable[float]
) -> list[np.ndarray]:
    """Predictions for `new` at each penalty, from one singular value decomposition."""
    inputs, outputs = _Scale(features), _Scale(targets)
    left, values, right = np.linalg.svd(inputs.apply(features).astype(np.float64), full_matrices=False)
    projected, seen = left.T @ outputs.apply(targets), inputs.apply(new) @ right.T
    shrink = [values / (values**2 + penalty * len(features)) for penalty in penalties]
    return [outputs.undo(seen @ (factor[:, None] * projected)) for factor in shrink]


def mlp(features: np.ndarray, targets: np.ndarray, groups: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Two hidden layers, stopped where the groups left out are predicted best. Torch's own seed is kept."""
    apart = left_out(groups)
    inputs, outputs = _Scale(features[~apart]), _Scale(targets[~apart])
    seen, wanted = _tensor(inputs.apply(features)), _tensor(outputs.apply(targets))
    fit, check = (torch.from_numpy(np.flatnonzero(rows)) for rows in (~apart, apart))
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(seen.shape[1], WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, wanted.shape[1]),
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        best, best_step, kept = torch.inf, 0, network.state_dict()
        for step in range(STEPS):
            rows = fit[torch.randint(len(fit), (min(BATCH, len(fit)),), generator=generator)]
            loss = F.mse_loss(network(seen[rows]), wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % CHECK_EVERY == 0:
                with torch.no_grad():
                    error = float(F.mse_loss(network(seen[check]), wanted[check]))
                if error < best:
                    best, best_step = error, step
                    kept = {name: value.clone() for name, value in network.state_dict().items()}
                if step - best_step >= PATIENCE * CHECK_EVERY:
                    break
    network.load_state_dict(kept)
    with torch.no_grad():
        return outputs.undo(network(_tensor(inputs.apply(new))).double().numpy())


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


REGRESSORS: dict[str, Regressor] = {"ridge": ridge, "mlp": mlp}
