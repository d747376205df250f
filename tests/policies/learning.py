"""What a few steps of training reach."""

import torch
from torch import Tensor, nn

LR = 1e-2


def never_trained(policy: nn.Module, batch: dict[str, Tensor], steps: int = 2) -> list[str]:
    """Names of the parameters that no gradient has reached; what starts from zeros passes it on at step 2."""
    optimizer = torch.optim.SGD(policy.parameters(), lr=LR)
    for _ in range(steps):
        optimizer.zero_grad()
        policy(batch)[0].backward()
        optimizer.step()
    return [name for name, parameter in policy.named_parameters() if parameter.grad is None]
