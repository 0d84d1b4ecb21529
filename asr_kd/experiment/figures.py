"""The figures of one cell at one seed, read from the files that its stages left; and their mean over seeds."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from asr_kd.distill.inspection import mean_kl_to_dense
from asr_kd.distill.store import TargetStore
from asr_kd.experiment.sharing import FROM, CellRun, read_record
from asr_kd.files import read_json
from asr_kd.nn.accuracy import ACCURACY, CORRECT
from asr_kd.nn.metrics import read_history
from asr_kd.nn.model import DESCRIPTION
from asr_kd.pipeline import STAGES
from asr_kd.score.frames import FrameCounts, frame_intervals, p_more_correct, read_counts
from asr_kd.score.results import gain_retained
from asr_kd.score.vocabulary import by_vocabulary, known_words
from asr_kd.score.wer import SCORED, p_better, read_transcripts

Figures = dict[str, float]
Summary = dict[str, Any]
BY_VOCABULARY = ("in_vocabulary_error_rate.", "out_of_vocabulary_recall.")


def read_figures(run: CellRun) -> Figures:
    """What exists of: the student's accuracy and cross-entropy, its teachers', the targets', error rates, CPU seconds.

    Names have dots, `frame_accuracy.dev`; shares are fractions. `last.` is the student's last epoch, the others its
    best; `teachers.` the ensemble and its average member, or generalist and specialists together and the generalist
    alone. `cpu_seconds` counts the stages that the cell ran itself.
    """
    found: Figures = {}
    records = [read_record(run.root, stage.name) for stage in STAGES]
    found["cpu_seconds"] = sum(record["cpu_seconds"] for record in records if record and FROM not in record)
    if has_stage(run, "student"):
        found |= _student(run.work.model("student"))
    if has_stage(run, "teachers"):
        found |= _ensemble(_teachers(run), found)
    if has_stage(run, "targets"):
        targets = _optional(run.work.targets / "summary.json")
        found |= {f"targets.{key}": value for key, value in targets.items() if isinstance(value, int | float)}
    return found | _results(_scores(run))


def read_intervals(run: CellRun) -> dict[str, list[float]]:
    """95 % intervals of single runs over utterances, by figure: of error rates, frame accuracy, the gain retained."""
    student = _scores(run).get("systems", {}).get("student", {})
    return {f"wer.{split}": errors["ci95"] for split, errors in student.get("wer", {}).items()} | _frame_intervals(run)


def read_systems(run: CellRun) -> dict[str, Figures]:
    """Frame accuracy, error rates and p of the cell's systems other than the student, where it was scored."""
    results = _scores(run)
    return {name: _system(results, name) for name in results.get("systems", {}) if name != "student"}


def read_specialists(run: CellRun) -> dict[str, Any]:
    """models/specialists.json of a cell whose recipe has specialists; empty before they are trained."""
    trained = run.recipe.specialists is not None and has_stage(run, "teachers")
    return _optional(run.work.specialists) if trained else {}


def compare_words(run: CellRun, other: CellRun) -> Figures:
    """Paired bootstrap of the students of two cells on the same utterances: p that the first errs less."""
    if not all(has_stage(each, "decode") and "student" in each.recipe.decode.systems for each in (run, other)):
        return {}
    ours, theirs = (read_transcripts(each.work, ("student",)) for each in (run, other))
    if ours.references["test"] != theirs.references["test"]:
        return {}
    baseline, student = (transcripts.hypotheses["student"]["test"] for transcripts in (theirs, ours))
    samples, seed = run.recipe.score.bootstrap_samples, run.recipe.seed
    return {"p_better": p_better(ours.references["test"], baseline, student, samples, seed)}


def compare_frames(run: CellRun, other: CellRun) -> Figures:
    """Paired bootstrap of the students of two cells on the same utterances: p that the first has more frames correct.

    Nothing where the cells have other alignments, whose states are other labels.
    """
    if run.fingerprints["align"] != other.fingerprints["align"]:
        return {}
    ours, theirs = _student_counts(run), _student_counts(other)
    samples, seed = run.recipe.score.bootstrap_samples, run.recipe.seed
    found: Figures = {}
    for split in ours:
        if split in theirs and ours[split].same_utterances(theirs[split]):
            student, baseline = (counts[split].correct["student"] for counts in (ours, theirs))
            found[f"p_more_correct.{split}"] = p_more_correct(student, baseline, samples, seed)
    return found


def with_vocabulary_of(other: CellRun, run: CellRun, systems: dict[str, Figures]) -> dict[str, Figures]:
    """The figures of a cell's `systems`, those in and out of the vocabulary by the words that `other` knows: cells that
    are compared have to count the same words. As they are where both know the same, or either has not come so far.
    """
    ours, theirs = (each.recipe.score.vocabulary or each.fingerprints["lang"] for each in (run, other))
    scored = has_stage(run, "score") and has_stage(other, "lang")
    if ours == theirs or not scored or run.recipe.corpus.of_images:
        return systems
    vocabulary = known_words(other.recipe, other.work)
    transcripts = read_transcripts(run.work, tuple(name for name in run.recipe.decode.systems if name in systems))
    counted = dict(systems)
    for name, found in transcripts.hypotheses.items():
        kept = {key: value for key, value in systems[name].items() if not key.startswith(BY_VOCABULARY)}
        splits = {split: by_vocabulary(transcripts.references[split], found[split], vocabulary) for split in SCORED}
        counted[name] = kept | _by_vocabulary(splits)
    return counted


def kl_to_dense(run: CellRun, reference: CellRun) -> Figures:
    """Mean KL of dense targets from the cell's, at the student's temperature; the same over the bins the loss sees.

    Nothing for targets drawn at random, whose KL is infinite though their mean is right.
    """
    ours, dense = (TargetStore(each.work.targets) for each in (run, reference))
    temperature = run.recipe.student.temperature
    found = {
        f"kl_to_dense{name}": mean_kl_to_dense(ours, dense, temperature, spread=spread)
        for name, spread in (("", True), ("_binned", False))
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def summarise(values: Sequence[float], *, spread: bool = True) -> Summary:
    """Mean, standard deviation and the t distribution's 95 % interval of the mean over seeds; null for one seed.

    spread=False: the mean alone, of probabilities, whose interval could leave [0, 1].
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2 or not spread:
        return {"mean": mean, "sd": None, "ci95": None, "seeds": count}
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return {"mean": mean, "sd": deviation, "ci95": [mean - half, mean + half], "seeds": count}


def _student(path: Path) -> Figures:
    description, history = _optional(path / DESCRIPTION), read_history(path)
    if not description:
        return {}
    found = {"parameters": description["parameters"], "epoch": description["epoch"]}
    # A student from before accuracy.json has what training measured on dev.
    found["frame_accuracy.dev"] = description["dev_frame_accuracy"]
    for split, figures in _optional(path / ACCURACY).items():
        found |= {f"{name}.{split}": figures[name] for name in ("frame_accuracy", "cross_entropy")}
    if history:
        found |= {f"last.frame_accuracy.{split}": history[-1][f"{split}_frame_accuracy"] for split in ("train", "dev")}
        found["last.cross_entropy.dev"] = history[-1]["dev_cross_entropy"]
    return found


def _teachers(run: CellRun) -> dict[str, Any]:
    """Accuracy of the ensemble and of its average member; with specialists, of all together and of the generalist."""
    if run.recipe.specialists is None:
        return _optional(run.root / "models" / "ensemble.json")
    accuracy = read_json(run.work.specialists)["accuracy"]
    both = {"ensemble": "with", "members_mean": "without"}
    return {name: {split: shares[key] for split, shares in accuracy.items()} for name, key in both.items()}


def _ensemble(ensemble: dict[str, Any], student: Figures) -> Figures:
    found: Figures = {}
    for split, accuracy in ensemble.get("ensemble", {}).items():
        mean, ours = ensemble["members_mean"][split], student.get(f"frame_accuracy.{split}")
        found |= {f"teachers.frame_accuracy.{split}": accuracy, f"teachers.members_mean.{split}": mean}
        retained = gain_retained(mean, accuracy, ours)
        if retained is not None:
            found[f"gain_retained.{split}"] = retained
    return found


def _student_counts(run: CellRun) -> dict[str, FrameCounts]:
    return read_counts(run.work.model("student") / CORRECT) if has_stage(run, "student") else {}


def _ensemble_counts(run: CellRun) -> dict[str, FrameCounts]:
    """Of the members and of all together; specialists and generalist together are not counted by utterance."""
    counted = run.recipe.specialists is None and has_stage(run, "teachers")
    return read_counts(run.root / "models" / CORRECT) if counted else {}


def _frame_intervals(run: CellRun) -> dict[str, list[float]]:
    samples, seed = run.recipe.score.bootstrap_samples, run.recipe.seed
    return frame_intervals(_student_counts(run), _ensemble_counts(run), samples, seed)


def _results(results: dict[str, Any]) -> Figures:
    return _system(results, "student") if "student" in results.get("systems", {}) else {}


def _system(results: dict[str, Any], name: str) -> Figures:
    system, significance = results["systems"][name], results.get("significance", {}).get(f"{name}_vs_baseline")
    accuracy = system.get("frame_accuracy") or {}
    found = {f"frame_accuracy.{split}": accuracy[split] for split in SCORED if accuracy.get(split) is not None}
    found |= {f"wer.{split}": errors["wer"] for split, errors in system.get("wer", {}).items()}
    found |= _by_vocabulary(system.get("by_vocabulary", {}))
    found |= {f"errors.{split}": count for split, count in system.get("errors", {}).items()}
    if offset := system.get("offset"):  # of an image recipe, to classes that the student never saw
        found |= {"offset": offset["value"], "errors_with_offset.test": offset["errors"]["test"]}
    if significance:
        found["p_better_than_baseline"] = significance["p_better"]
    return found | {key: system[key] for key in ("parameters", "rtf") if system.get(key) is not None}


def _by_vocabulary(splits: dict[str, dict[str, dict[str, Any]]]) -> Figures:
    """Of each split that has words both in and out of the vocabulary."""
    found: Figures = {}
    for split, sides in splits.items():
        known, unknown = sides["in"], sides["out"]
        if known["words"] and unknown["words"]:
            found[f"in_vocabulary_error_rate.{split}"] = known["error_rate"]
            found[f"out_of_vocabulary_recall.{split}"] = unknown["recalled"] / unknown["words"]
    return found


def has_stage(run: CellRun, stage: str) -> bool:
    """Whether the stage's files are of the cell's recipe, not of an earlier one."""
    record = read_record(run.root, stage)
    return record is not None and record["fingerprint"] == run.fingerprints[stage]


def _scores(run: CellRun) -> dict[str, Any]:
    return _optional(run.work.results) if has_stage(run, "score") else {}


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else {}
