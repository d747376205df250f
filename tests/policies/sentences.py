"""What whole sentences are to mean to a policy, by what it knows of their words."""

from torch import Tensor

from policies.latent_vla.subgoals import Subgoals


def give_meanings(subgoals: Subgoals, tokens: Tensor) -> None:
    """Let each of G sentences be read as one of these tokens (G, D)."""
    subgoals.meanings.data = (subgoals.codes.pinverse() @ tokens).T


def give_words(subgoals: Subgoals, states: Tensor) -> None:
    """Let each of G sentences be the more likely the more alike the states are to one of these (G, W)."""
    subgoals.words.data = subgoals.codes.pinverse() @ states
