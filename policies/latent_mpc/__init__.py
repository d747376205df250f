"""The planning policy: searches a latent world model for the actions that lead to a goal."""

from policies.latent_mpc.configuration_latent_mpc import LatentMPCConfig

__all__ = ["LatentMPCConfig"]
