"""The 50 Meta-World v3 tasks: their names, one plain-English instruction each, and named task sets."""

from difflib import get_close_matches

INSTRUCTIONS: dict[str, str] = {
    "assembly": "pick up the wrench and put its ring over the peg",
    "basketball": "put the basketball through the hoop",
    "bin-picking": "move the green block from the red bin to the blue bin",
    "box-close": "put the lid on the box",
    "button-press-topdown": "press the button down from above",
    "button-press-topdown-wall": "reach over the wall and press the button down from above",
    "button-press": "push the button in from the front",
    "button-press-wall": "reach around the wall and push the button in from the front",
    "coffee-button": "press the button on the coffee machine",
    "coffee-pull": "pull the mug away from the coffee machine",
    "coffee-push": "push the mug under the coffee machine",
    "dial-turn": "turn the dial",
    "disassemble": "lift the wrench off the peg",
    "door-close": "close the door",
    "door-lock": "lock the door by turning the lock down",
    "door-open": "open the door",
    "door-unlock": "unlock the door by turning the lock sideways",
    "hand-insert": "put the gripper with the block into the hole in the table",
    "drawer-close": "close the drawer",
    "drawer-open": "open the drawer",
    "faucet-open": "turn the faucet handle to open it",
    "faucet-close": "turn the faucet handle to close it",
    "hammer": "hit the nail into the wall with the hammer",
    "handle-press-side": "press the sideways handle down",
    "handle-press": "press the handle down",
    "handle-pull-side": "pull the sideways handle up",
    "handle-pull": "pull the handle up",
    "lever-pull": "pull the lever up",
    "peg-insert-side": "insert the peg into the hole in the side of the box",
    "pick-place-wall": "lift the block over the wall and place it at the goal",
    "pick-out-of-hole": "take the block out of the hole and lift it to the goal",
    "reach": "reach the goal with the gripper",
    "push-back": "push the block back towards the robot to the goal",
    "push": "push the block to the goal",
    "pick-place": "pick up the block and place it at the goal",
    "plate-slide": "slide the plate forward into the goal",
    "plate-slide-side": "slide the plate sideways into the goal",
    "plate-slide-back": "slide the plate back out of the goal",
    "plate-slide-back-side": "slide the plate back sideways out of the goal",
    "peg-unplug-side": "pull the peg out of the side of the box",
    "soccer": "push the ball into the soccer goal",
    "stick-push": "pick up the stick and push the bottle with it",
    "stick-pull": "pick up the stick and pull the bottle with it",
    "push-wall": "push the block around the wall to the goal",
    "reach-wall": "reach the goal behind the wall with the gripper",
    "shelf-place": "pick up the block and place it on the shelf",
    "sweep-into": "sweep the block into the hole in the table",
    "sweep": "sweep the block off the table",
    "window-open": "slide the window open",
    "window-close": "slide the window closed",
}

MT50: tuple[str, ...] = tuple(INSTRUCTIONS)

MT10: tuple[str, ...] = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)

TASK_SETS: dict[str, tuple[str, ...]] = {"mt10": MT10, "mt50": MT50}


def parse_tasks(text: str) -> tuple[str, ...]:
    """Turn a task set ("mt10", "mt50") or a comma list ("reach,push") into task names, in the order given.

    Names may carry Meta-World's "-v3" ending.

    Raises:
        ValueError: an empty list, a task named twice, or a name that is not a task (with the closest ones).
    """
    if text in TASK_SETS:
        return TASK_SETS[text]
    names = tuple(part.strip().removesuffix("-v3") for part in text.split(",") if part.strip())
    if not names:
        raise ValueError(f"tasks {text!r}: expected mt10, mt50 or a comma list such as reach,push")
    for name in names:
        if name not in INSTRUCTIONS:
            close = get_close_matches(name, (*MT50, *TASK_SETS), n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(close)}?" if close else "such as reach, push, mt10 or mt50"
            raise ValueError(f"task {name!r}: expected one of the 50 Meta-World tasks, {hint}")
    if len(set(names)) != len(names):
        raise ValueError(f"tasks {text!r}: expected each task once")
    return names
