"""The world models that are trained on their own, by the `type` in their checkpoints' config.json.

A kind is its configuration, and a module that is built from that and from `Sizes`. It sees and predicts as
`JEPA` does, and gives `loss, metrics` of a `Clip`.
"""

from dataclasses import dataclass

from world_models.config import ClipConfig, JEPAConfig, LeWMConfig
from world_models.from_pixels import JEPA
from world_models.lewm import LeWorldModel


@dataclass(frozen=True, kw_only=True)
class Kind:
    """config, network: both classes."""

    config: type[ClipConfig]
    network: type[JEPA] | type[LeWorldModel]


KINDS = {
    "jepa": Kind(config=JEPAConfig, network=JEPA),
    "lewm": Kind(config=LeWMConfig, network=LeWorldModel),
}
