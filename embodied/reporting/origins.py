"""The section on where a run comes from: what it takes to make it again."""

import datetime

from markupsafe import Markup

from embodied.reporting import formats
from embodied.reporting.run_folder import Run
from embodied.reporting.templating import render

Fact = tuple[str, str, bool]
"""Name, value, and whether it is an exact text to be copied."""


def run_date(run: Run) -> str:
    """The day of the run (UTC): as noted in its results, else when its newest file was written."""
    noted = [evaluation.result.get("date") for evaluation in run.evaluations]
    noted += [diagnosis.get("date") for diagnosis in run.diagnoses]
    noted += [training.provenance.get("date") for training in run.trainings]
    noted += [result.get("date") for result, _ in (*run.imagined, *run.chaos)]
    dates = [date for date in noted if date]
    return (
        max(dates)
        if dates
        else datetime.datetime.fromtimestamp(run.written, datetime.UTC).strftime("%Y-%m-%d")
    )


def provenance(run: Run, media: int) -> Markup | None:
    """What is needed to make the run again: commands, seeds, hashes, commit, machine, versions."""
    origins = [("training", one.provenance) for one in run.trainings if one.provenance]
    origins += [("evaluation", one.result) for one in run.evaluations if one.result.get("command")]
    origins += [("diagnostics", one) for one in run.diagnoses if one.get("command")]
    origins += [("imagination", result) for result, _ in run.imagined if result.get("command")]
    origins += [("chaos", result) for result, _ in run.chaos if result.get("command")]
    facts = [*_checkpoint_facts(run), *_data_facts(run), *_seed_facts(run)]
    for name in ("commit", "machine"):
        texts: dict[str, list[str]] = {}
        for stage, origin in origins:
            if origin.get(name):
                texts.setdefault(formats.machine(origin[name]), []).append(stage)
        for text, stages in texts.items():
            of = f" of {' and '.join(dict.fromkeys(stages))}" if len(texts) > 1 else ""
            facts.append((f"{name}{of}", text, name == "commit"))
    facts.append(("date", run_date(run), False))
    return render(
        "provenance.html",
        commands=list(dict.fromkeys(origin["command"] for _, origin in origins if origin.get("command"))),
        facts=facts,
        versions=next((origin["versions"] for _, origin in reversed(origins) if origin.get("versions")), {}),
    )


def _checkpoint_facts(run: Run) -> list[Fact]:
    found = [(one.checkpoint.get("step"), one.checkpoint.get("sha256")) for one in run.trainings]
    results = [*(one.result for one in run.evaluations), *run.diagnoses]
    results += [result for result, _ in run.imagined]
    evaluated = [result.get("checkpoint") or {} for result in results]
    known = {digest for _, digest in found}
    found += [(None, one.get("sha256")) for one in evaluated if one.get("sha256") not in known]
    named = dict.fromkeys((step, digest) for step, digest in found if digest)
    return [(f"checkpoint, step {step}" if step else "checkpoint", digest, True) for step, digest in named]


def _data_facts(run: Run) -> list[Fact]:
    sets = [one.provenance.get("dataset") for one in run.trainings]
    sets += [one.result.get("dataset") for one in run.evaluations]
    sets += run.collections
    digests = dict.fromkeys(one["fingerprint"] for one in sets if one and one.get("fingerprint"))
    return [("data set", digest, True) for digest in digests]


def _seed_facts(run: Run) -> list[Fact]:
    trained = [one.provenance.get("seed", one.settings.get("seed")) for one in run.trainings]
    trained += [(one.result.get("checkpoint") or {}).get("training_seed") for one in run.evaluations]
    seeds = {
        "training seed": [seed for seed in trained if seed is not None],
        "environment seeds": [
            seed for one in run.evaluations for task in one.result["tasks"] for seed in task.get("seeds", [])
        ],
    }
    return [(name, formats.span(values), False) for name, values in seeds.items() if values]
