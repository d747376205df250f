"""A frozen teacher: any timm model, whose pooled features of the frames are regressed from the latents.

It keeps latents rich where little is to be predicted. The teacher gives targets and nothing else: the
dynamics' space stays the encoder's own, and the teacher is needed in training only.

B batch, V cameras, F features.
"""

from typing import Any

import timm
import torch
from torch import Tensor
from torch.nn import functional as F


class FrozenTeacher:
    """A timm model that is never trained, and is no part of the module that learns from it."""

    def __init__(self, name: str, *, pretrained: bool, device: str = "cpu") -> None:
        """pretrained: download its weights; random ones otherwise, a control.

        Raises:
            ValueError: timm has no model of that name, or its weights cannot be had.
        """
        if not timm.is_model(name.split(".")[0]):
            raise ValueError(f"--model.teacher={name}: expected none or a timm model, such as resnet18")
        try:
            model: Any = timm.create_model(name, pretrained=pretrained, num_classes=0)
        except (OSError, RuntimeError) as error:  # no network, or nobody has trained this one
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(
                f"--model.teacher={name}: its weights cannot be had ({reason}): expected a model that can be "
                "downloaded, or --model.teacher_pretrained=false"
            ) from error
        self._model = model.eval().requires_grad_(False).to(device)
        settings = self._model.pretrained_cfg
        self._size: tuple[int, int] = settings["input_size"][1:]
        self._mean, self._deviation = (
            torch.tensor(settings[name], device=device).reshape(3, 1, 1) for name in ("mean", "std")
        )
        self.dim: int = self._model.num_features

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """images: (..., 3, H, W) in [0, 1], of any size. Returns (..., F), standardised over F."""
        flat = images.flatten(0, -4)
        if flat.shape[-2:] != self._size:
            flat = F.interpolate(flat, self._size, mode="bilinear", antialias=True)
        pooled = self._model((flat - self._mean) / self._deviation).float()
        return F.layer_norm(pooled, pooled.shape[-1:]).unflatten(0, images.shape[:-3])
