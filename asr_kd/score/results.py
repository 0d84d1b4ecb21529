"""results.json: every figure of a run, as fractions; docs/formats.md says what each is."""

from collections.abc import Iterable
from typing import Any

from asr_kd.corpora.manifest import read_cuts
from asr_kd.features.store import FrameStore
from asr_kd.files import read_json
from asr_kd.nn.accuracy import CORRECT
from asr_kd.recipe import Recipe
from asr_kd.score.frames import frame_intervals, read_counts
from asr_kd.score.lattice import lattice_figures
from asr_kd.score.vocabulary import by_vocabulary, known_words
from asr_kd.score.wer import SCORED, Transcripts, Words, p_better, word_errors
from asr_kd.workspace import LAST_TREE, SPLITS, Workspace

Results = dict[str, Any]
GAIN = ("baseline", "ensemble", "student")


def collect_results(
    recipe: Recipe, work: Workspace, transcripts: Transcripts, stages: dict[str, dict[str, float]]
) -> Results:
    """Score every decoded system of the run; `stages` are the seconds that each stage took.

    Raises UserError that names the file when a stage before has left something out.
    """
    vocabulary = known_words(recipe, work)
    systems = {name: _system(recipe, work, name, transcripts, vocabulary) for name in transcripts.hypotheses}
    if "ensemble" in systems:
        systems["ensemble"]["members"] = recipe.teachers.members
    ensemble = read_json(work.root / "models" / "ensemble.json")
    results: Results = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "num_pdfs": int(FrameStore(work.alignment("train")).meta["num_pdfs"]),
        "hours": {split: _hours(work, split) for split in SPLITS},
        "systems": systems,
        "gain_retained": _gains_retained(systems, "test"),
        "gain_retained_dev": _gains_retained(systems, "dev"),
        "gain_retained_vs_members_mean": _gain_over_members_mean(systems, ensemble["members_mean"]),
        "gain_retained_vs_members_mean_ci95": _gain_intervals(recipe, work, systems),
        "significance": _significance(recipe, transcripts),
        "members": ensemble,
        "targets": read_json(work.targets / "summary.json"),
        "lang": read_json(work.lang / "lang.json"),
        "graphs": _graphs(work, systems),
        "left_out": left_out(work),
        "stages": stages,
    }
    if recipe.specialists:
        results["specialists"] = read_json(work.specialists)
    results["warnings"] = implausible(results)
    return results


def left_out(work: Workspace) -> dict[str, dict[str, int]]:
    """Utterances left out by stage 0 as unusable, by stage 1 as unreadable, by stage 3 as not alignable; by split."""
    excluded = {"prepare": work.excluded, "features": work.root / "features" / "excluded.json"}
    counts = {
        stage: {split: sum(row["split"] == split for row in read_json(path)) for split in SPLITS}
        for stage, path in excluded.items()
        if path.exists()
    }
    failed = {split: work.failed_alignments(split) for split in SPLITS}
    align = {split: len(read_json(path)) for split, path in failed.items() if path.exists()}
    return counts | ({"align": align} if align else {})


def gain_retained(
    baseline: float | None, ensemble: float | None, student: float | None, *, sign: int = 1
) -> float | None:
    """(student − baseline) / (ensemble − baseline).

    sign: 1 for a figure that improves upwards (frame accuracy), −1 downwards (WER). None where a figure is
    missing or the ensemble gains nothing.
    """
    if baseline is None or ensemble is None or student is None or sign * (ensemble - baseline) <= 0:
        return None
    return (student - baseline) / (ensemble - baseline)


def implausible(results: Results) -> list[str]:
    """What no honest run shows: one sentence for each figure that points to a leak or a fault."""
    found, chance = [], 1 / results["num_pdfs"]
    for name, system in results["systems"].items():
        for split in SCORED:
            if system["wer"][split]["wer"] == 0:
                found.append(f"{name}: WER on {split} is 0; are its words or speakers in the training data?")
            accuracy = system["frame_accuracy"][split]
            if accuracy is not None and not chance < accuracy < 0.99:
                found.append(f"{name}: frame accuracy {accuracy:.1%} on {split}, where chance is {chance:.2%}")
    student, ensemble = (_frame_accuracy(results["systems"], name, "test") for name in ("student", "ensemble"))
    if student is not None and ensemble is not None and student > ensemble + 0.02:
        found.append(f"student: frame accuracy {student:.1%} on test, far above its teachers' {ensemble:.1%}")
    return found


def _system(
    recipe: Recipe, work: Workspace, name: str, transcripts: Transcripts, vocabulary: frozenset[str]
) -> dict[str, Any]:
    summary = read_json(work.decode(name) / "summary.json")
    accuracy = summary["frame_accuracy"] or dict.fromkeys(SCORED)
    references, hypotheses = transcripts.references, transcripts.hypotheses[name]
    samples = recipe.score.bootstrap_samples
    return {
        "parameters": summary["parameters"],
        "frame_accuracy": {split: accuracy[split] for split in SCORED},
        "wer": {s: word_errors(references[s], hypotheses[s], samples, recipe.seed) for s in SCORED},
        "by_vocabulary": {s: by_vocabulary(references[s], hypotheses[s], vocabulary) for s in SCORED},
        "rtf": summary["rtf"],
        "scales": summary["scales"],
        **lattice_figures(recipe, work, name, references),
    }


def _graphs(work: Workspace, systems: Iterable[str]) -> Results:
    """What the search graphs of the systems take, by tree; CPU seconds, of the language part too, which trees share."""
    trees = dict.fromkeys(name.removeprefix("gmm-") if name.startswith("gmm-") else LAST_TREE for name in systems)
    graphs: Results = {}
    for tree in trees:
        path = work.graph(tree) / "stats.json"
        if path.exists():
            stats = read_json(path)
            graphs[tree] = {key: stats[key] for key in ("states", "arcs", "bytes", "peak_rss_mb")}
            graphs[tree]["seconds"] = round(sum(stats["seconds"].values()), 2)
    return graphs


def _hours(work: Workspace, split: str) -> float:
    return round(sum(cut.duration for cut in read_cuts(work.manifest(split))) / 3600, 4)


def _frame_accuracy(systems: dict[str, Any], name: str, split: str) -> float | None:
    return systems[name]["frame_accuracy"][split] if name in systems else None


def _wer(systems: dict[str, Any], name: str, split: str) -> float | None:
    return systems[name]["wer"][split]["wer"] if name in systems else None


def _gains_retained(systems: dict[str, Any], split: str) -> dict[str, float | None]:
    accuracy = [_frame_accuracy(systems, name, split) for name in GAIN]
    wer = [_wer(systems, name, split) for name in GAIN]
    return {"frame_accuracy": gain_retained(*accuracy), "wer": gain_retained(*wer, sign=-1)}


def _gain_over_members_mean(systems: dict[str, Any], mean: dict[str, float]) -> dict[str, float | None]:
    """Frame accuracy only: of the members, member 0 alone is decoded."""
    return {s: gain_retained(mean[s], *(_frame_accuracy(systems, name, s) for name in GAIN[1:])) for s in SCORED}


def _gain_intervals(recipe: Recipe, work: Workspace, systems: dict[str, Any]) -> dict[str, list[float] | None]:
    """Of `gain_retained_vs_members_mean`, over utterances; None where that is None, uncounted, or without a bound."""
    if not systems.keys() >= {"ensemble", "student"}:
        return dict.fromkeys(SCORED)
    student, teachers = (read_counts(folder / CORRECT) for folder in (work.model("student"), work.root / "models"))
    found = frame_intervals(student, teachers, recipe.score.bootstrap_samples, recipe.seed)
    return {split: found.get(f"gain_retained.{split}") for split in SCORED}


def _significance(recipe: Recipe, transcripts: Transcripts) -> dict[str, dict[str, float]]:
    references, tests = (
        transcripts.references["test"],
        {n: h["test"] for n, h in transcripts.hypotheses.items()},
    )
    if "baseline" not in tests:
        return {}

    def against_baseline(system: Words) -> float:
        return p_better(references, tests["baseline"], system, recipe.score.bootstrap_samples, recipe.seed)

    return {
        f"{name}_vs_baseline": {"p_better": against_baseline(tests[name])}
        for name in ("ensemble", "specialists", "student")
        if name in tests
    }
