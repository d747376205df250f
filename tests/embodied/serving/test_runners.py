from pathlib import Path

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
    assert export.arguments == {"kind": "export", "path": str(tmp_path), "options": {}}
    still = find_target(tmp_path, null=True, device=None, overrides=[])
    assert still.function == "embodied.serving.runners:holding_still"
