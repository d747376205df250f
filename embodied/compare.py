"""`embodied compare`: do what a declaration asks for and is not done yet, then compare the arms."""

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embodied.comparison_work import Unit, Work
from embodied.config import CompareConfig, ReportConfig
from embodied.errors import UserError
from embodied.evaluation.declaration import Declaration, read_declaration
from embodied.evaluation.row_log import RowLog
from embodied.evaluation.summary import align
from embodied.manifest import read_json, write_json
from embodied.provenance import run_origin
from embodied.reporting.comparisons import comparison_lines
from embodied.reporting.report import report
from embodied.training.lock import OutputLock

NAMED = ("data", "training", "arms", "conditions")
"""Parts of a declaration whose entries may be added to, but not changed, once something was made of them."""

NOTE = "declaration.json"


def compare(config: CompareConfig) -> dict[str, Any]:
    """Do what is missing, print the table and return the result as JSON values.

    It holds `arms`, `rates` and `comparisons` as `summarise_comparison` gives them, of what is complete; what
    the `trainings` took; how many `units` of work there are and how many are `done`; the `declaration`; and
    what `run_origin` says. It goes to `<results>/<name>.json`, and into output_dir as well, where the report
    is made.

    Raises:
        UserError: the declaration cannot be used, or contradicts what was made before; a stage needs one that
            is not done; whatever collecting, training and evaluating refuse.
        KeyboardInterrupt: with the command that goes on.
    """
    declaration = read_declaration(config.declaration, config.output_dir)
    results = config.results or config.output_dir
    config.output_dir.mkdir(parents=True, exist_ok=True)
    with OutputLock(config.output_dir) as lock:
        lock.acquire()
        log = RowLog(results / f"{declaration.name}.jsonl")
        _claim(declaration, config.output_dir / NOTE, log)
        work = Work(config, declaration, log)
        units = work.units()
        is_stopped = _run(units, config)
        result = {
            **work.summary(),
            "units": len(units),
            "done": sum(unit.is_done() for unit in units),
            **run_origin(_command(config), seeds=declaration.training_seeds),
        }
        for folder in dict.fromkeys((results, config.output_dir)):
            write_json(folder / f"{declaration.name}.json", result)
    if result["rates"]:
        print(align(comparison_lines(result)))
        report(ReportConfig(run=config.output_dir))
    print(f"\n{result['done']} of {result['units']} units of work are done: {log.path}")
    if is_stopped:
        print(f"stopped after --max_minutes={config.max_minutes}; go on with: {shlex.join(_command(config))}")
    return result


def _command(config: CompareConfig) -> list[str]:
    """The command line of this comparison, without what changes no result."""
    flags = {"output_dir": config.output_dir, "results": config.results, "device": config.device}
    given = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    return ["embodied", "compare", str(config.declaration), *given]


# --- running --------------------------------------------------------------------------------------


def _run(units: list[Unit], config: CompareConfig) -> bool:
    """Run what is not done; returns whether time was up before the end."""
    started = time.monotonic()
    chosen = [unit for unit in units if config.stage in ("all", unit.stage)]
    for number, unit in enumerate(chosen, start=1):
        if unit.is_done():
            continue
        if config.max_minutes is not None and time.monotonic() - started >= 60 * config.max_minutes:
            return True
        for need in unit.needs:
            if not need.is_done():
                raise UserError(
                    f"--stage={config.stage}: {unit.label} needs {need.label}: expected all, or "
                    f"--stage={need.stage} first"
                )
        print(f"[{number}/{len(chosen)}] {unit.label}", flush=True)
        with _stop_explained(unit, config):
            unit.run()
    return False


@contextmanager
def _stop_explained(unit: Unit, config: CompareConfig) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        line = shlex.join(_command(config))
        raise KeyboardInterrupt(
            f"stopped in {unit.label}; what is done is kept; go on with: {line}"
        ) from None


def _claim(declaration: Declaration, note: Path, log: RowLog) -> None:
    """Note in the output folder and among the rows what a name stands for; refuse another meaning."""
    noted = read_json(note) if note.is_file() else {}
    logged: dict[str, Any] = {}
    for row in log.rows:
        logged = row.get("declaration", logged)
    all_noted, all_logged = (
        _with(known, declaration.declared, place) for known, place in ((noted, note), (logged, log.path))
    )
    if all_noted != noted:
        write_json(note, all_noted)
    if all_logged != logged:
        log.append({"declaration": all_logged})


def _with(known: Mapping[str, Any], declared: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """What is known, and what is declared beside; UserError where they contradict each other."""
    for part in NAMED:
        for name, value in declared[part].items():
            if known.get(part, {}).get(name, value) != value:
                raise UserError(
                    f"{part}.{name}: differs from that in {place}: expected the same, another name for it, "
                    "or other --output_dir and --results"
                )
    return {part: {**known.get(part, {}), **declared[part]} for part in NAMED}
