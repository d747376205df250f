"""How each kind of feature is normalised where the user does not say."""

from collections.abc import Mapping

from lerobot.configs.types import NormalizationMode

NORMALIZATION = {
    "VISUAL": NormalizationMode.IDENTITY,
    "STATE": NormalizationMode.MEAN_STD,
    "ENV": NormalizationMode.MEAN_STD,
    "ACTION": NormalizationMode.MEAN_STD,
}


def complete(
    mapping: Mapping[str, NormalizationMode], relative_actions: bool
) -> dict[str, NormalizationMode]:
    """The mapping with the kinds that it does not name; ValueError for others, or one that does not go."""
    unknown = sorted(set(mapping) - set(NORMALIZATION))
    if unknown:
        raise ValueError(
            f"--policy.normalization_mapping: {unknown[0]}, expected one of {', '.join(NORMALIZATION)}"
        )
    completed = {**NORMALIZATION, **mapping}
    if relative_actions and completed["ACTION"] is NormalizationMode.IDENTITY:
        raise ValueError(
            "--policy.normalization_mapping: IDENTITY for ACTION, expected another with "
            "--policy.relative_actions=true"
        )
    return completed
