"""The result of an inspection as plain text, compact enough for a terminal."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

MOST_LISTED = 12
"""Instructions, sub-tasks and episodes of one finding that are written out."""


def format_result(result: Mapping[str, Any]) -> str:
    """What is in the data set, then its findings, one line per kind and place."""
    blocks = [
        _overview(result),
        *_vectors(result["features"]),
        _findings(result["findings"]),
        _verdict(result),
    ]
    return "\n\n".join(block for block in blocks if block)


def _overview(result: Mapping[str, Any]) -> str:
    dataset, episodes = result["dataset"], result["episodes"]
    fps = dataset["fps"]
    lines = [
        ("data set", f"{dataset['root']}  ({dataset['robot'] or 'robot unknown'}, {dataset['version']})"),
        (
            "episodes",
            f"{episodes['count']} with {dataset['frames']} frames at {fps} fps; {episodes['shortest']} to "
            f"{episodes['longest']} each, median {episodes['median']:g} ({episodes['median'] / fps:.1f} s)",
        ),
    ]
    if episodes["successes"] is not None:
        lines.append(("successes", f"{episodes['successes']} of {episodes['count']} episodes"))
    for key, camera in result["cameras"].items():
        looked, total = camera["pictures_looked_at"], camera["pictures"]
        sampled = "" if looked == total else f", {looked} of {total} looked at (--all_frames=true: all)"
        lines.append(
            ("camera", f"{key}  {camera['width']}x{camera['height']} {camera['stored_as']}{sampled}")
        )
    lines += _counted("task", result["language"]["tasks"])
    lines += _counted("sub-task", result["language"]["subtasks"])
    others = [
        f"{key} ({feature['dtype']})"
        for key, feature in result["features"].items()
        if key not in result["cameras"] and "dimensions" not in feature
    ]
    lines.append(("columns", ", ".join(others)))
    return "\n".join(f"{label:<10} {text}" for label, text in lines)


def _counted(label: str, counts: Mapping[str, int]) -> list[tuple[str, str]]:
    lines = [(label, f"{count:>4} x {text!r}") for text, count in list(counts.items())[:MOST_LISTED]]
    return [*lines, ("", f"and {len(counts) - MOST_LISTED} more")] if len(counts) > MOST_LISTED else lines


def _vectors(features: Mapping[str, Any]) -> list[str]:
    columns = ("min", "q01", "median", "q99", "max", "mean", "std")
    blocks = []
    for key, feature in features.items():
        if "dimensions" not in feature:
            continue
        title = f"{key}  {feature['dtype']} {feature['shape']}"
        width = max(len(title), *(len(item["name"]) + 2 for item in feature["dimensions"]))
        lines = [f"{title:<{width}}" + "".join(f"{name:>10}" for name in columns)]
        for item in feature["dimensions"]:
            numbers = (item[name] for name in columns)
            cells = "".join(f"{'-' if value is None else f'{value:.4g}':>10}" for value in numbers)
            lines.append(f"{'  ' + item['name']:<{width}}{cells}")
        blocks.append("\n".join(lines))
    return blocks


def _findings(findings: list[dict[str, Any]]) -> str:
    groups = defaultdict(list)
    for finding in findings:
        key = tuple(finding[name] or "" for name in ("severity", "kind", "feature", "dimension"))
        groups[key].append(finding)
    lines = []
    for (severity, kind, feature, dimension), group in groups.items():
        where = " ".join(part for part in (feature, dimension, _place(group[0])) if part)
        lines.append(f"{severity:<8} {kind:<20} {where}: {group[0]['message']}{_others(group)}")
    return "\n".join(lines)


def _place(finding: Mapping[str, Any]) -> str:
    if finding["episode"] is None:
        return ""
    place = f"episode {finding['episode']}"
    if finding["frames"] is None:
        return place
    first, last = finding["frames"]
    return f"{place} frame {first}" if first == last else f"{place} frames {first}-{last}"


def _others(group: list[dict[str, Any]]) -> str:
    if len(group) == 1:
        return ""
    episodes = sorted({item["episode"] for item in group[1:] if item["episode"] is not None})
    if not episodes:
        return f" (and {len(group) - 1} more)"
    listed = ", ".join(map(str, episodes[:MOST_LISTED])) + (", ..." if len(episodes) > MOST_LISTED else "")
    return f" (and {len(group) - 1} more, in episodes {listed})"


def _verdict(result: Mapping[str, Any]) -> str:
    if not result["problems"] and not result["notes"]:
        return "nothing wrong found"
    return f"{result['problems']} problem(s), {result['notes']} note(s)"
