"""How much of a former chunk binds the next one (real-time chunking, arXiv 2506.07339). Imports no torch."""

import math


def prefix_weights(left: int, delay: int) -> list[float]:
    """The weight of each of the `left` actions that a former chunk has left.

    The first `delay` will have been executed when the new chunk comes: 1, which must not differ. The others
    fade out exponentially, so that the new chunk follows them at first and may leave them later.
    """
    fading = [step / (left - delay + 1) for step in range(left - delay, 0, -1)]
    return [1.0] * delay + [share * math.expm1(share) / (math.e - 1) for share in fading]
