from pathlib import Path

import pytest

from embodied.errors import UserError
from embodied.serving.inference import spare_cores
from embodied.serving.runners import find_target


def test_a_checkpoint_an_export_and_a_policy_that_holds_still_are_told_apart(tmp_path: Path) -> None:
    flags = ["--n_action_steps=4"]
    checkpoint = find_target(tmp_path, null=False, device="cpu", overrides=flags)
    assert checkpoint.arguments == {
        "kind": "checkpoint",
        "path": str(tmp_path),
        "options": {"device": "cpu", "overrides": flags},
    }
    (tmp_path / "export.json").touch()
    export = find_target(tmp_path, null=False, device=None, overrides=[])
    options = {"threads": spare_cores()}
    assert export.arguments == {"kind": "export", "path": str(tmp_path), "options": options}
    still = find_target(tmp_path, null=True, device=None, overrides=[])
    assert still.function == "embodied.serving.runners:holding_still"


@pytest.mark.parametrize(
    ("device", "overrides", "line"),
    [
        ("cuda", [], "--device=cuda: .* is an exported policy: expected cpu"),
        (
            None,
            ["--euler_steps=8"],
            "--policy.euler_steps: .* is exported with it: expected only --policy.path",
        ),
    ],
)
def test_flags_that_an_export_cannot_change_are_refused(
    tmp_path: Path, device: str | None, overrides: list[str], line: str
) -> None:
    (tmp_path / "export.json").touch()
    with pytest.raises(UserError, match=line):
        find_target(tmp_path, null=False, device=device, overrides=overrides)
