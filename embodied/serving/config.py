"""Configuration of `embodied serve`."""

from dataclasses import dataclass, field
from pathlib import Path

from embodied.errors import UserError
from embodied.serving.runner import FEWEST_CANDIDATES
from embodied.serving.specification import MAX_CANDIDATES


@dataclass(frozen=True, kw_only=True)
class ServedPolicy:
    """What is served: `path` is a checkpoint, a run's output folder or an exported policy."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """`embodied serve`: one policy for robots that connect; SIGTERM and Ctrl-C let it finish what it has.

    Other `--policy.*` flags override fields of a checkpoint's own configuration. null: hold still instead of
    asking the policy, for tests of the load. modes: comma list of ways to decide that sessions may choose,
    all of the policy's if None; mode: for who names none. max_candidates: the most chunks that a session in
    mode `plan` may have it choose among, the policy's own number if None. max_batch: requests decided
    together. openpi: speak its dialect as well. inference_timeout: seconds after which inference has hung and
    is started anew. token_file: holds what clients have to show; with tls_cert and tls_key it is needed for a
    host that others can reach.
    """

    policy: ServedPolicy
    policy_overrides: list[str] = field(default_factory=list)
    null: bool = False
    device: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None
    modes: str | None = None
    mode: str = ""
    max_candidates: int | None = None
    max_sessions: int = 32
    max_batch: int = 8
    openpi: bool = False
    inference_timeout: float = 30.0
    json: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port={self.port}: expected 0 to 65535")
        for name in ("max_sessions", "max_batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: expected at least 1")
        if self.max_candidates is not None and not FEWEST_CANDIDATES <= self.max_candidates <= MAX_CANDIDATES:
            expected = f"expected {FEWEST_CANDIDATES} to {MAX_CANDIDATES}"
            raise UserError(f"--max_candidates={self.max_candidates}: {expected}")
        if not self.inference_timeout > 0:
            raise UserError(f"--inference_timeout={self.inference_timeout}: expected more than 0")
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise UserError(f"--{given}={getattr(self, given)}: expected --{missing} as well")
