"""The latent vision-language-action policy: reads cameras, instruction and state, thinks in latents, acts."""

from policies.latent_vla.configuration_latent_vla import LatentVLAConfig

__all__ = ["LatentVLAConfig"]
