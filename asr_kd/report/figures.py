"""Sections of the page that results.json and the training histories fill."""

from collections.abc import Mapping
from typing import Any

from asr_kd.distill.targets import tail_mass
from asr_kd.report.charts import QUIET, Line, curves, dots, style
from asr_kd.report.document import Note, Row, Section, Table
from asr_kd.score.images import IMAGE_HEADER, image_rows
from asr_kd.score.plots import History
from asr_kd.score.report import LEGEND
from asr_kd.score.results import Results
from asr_kd.score.table import HEADER, doubted_gain, gain_rows, percent, table_rows
from asr_kd.score.wer import SCORED

CLUSTERS, CLUSTER_STATES = 3, 12
MEBIBYTE = 2**20


def systems_section(results: Results) -> Section:
    """The table of systems; for speech their error rates with intervals too."""
    warnings = [Note(f"Implausible: {text}", warning=True) for text in results.get("warnings", ())]
    if "images" in results:
        return Section("systems", "Systems", [*warnings, Table("Systems", IMAGE_HEADER, image_rows(results))])
    rates = {name: system["wer"]["test"] for name, system in results["systems"].items()}
    wer = [100 * test["wer"] for test in rates.values()]
    reach = (
        [100 * (test["wer"] - test["ci95"][0]) for test in rates.values()],
        [100 * (test["ci95"][1] - test["wer"]) for test in rates.values()],
    )
    chart = dots("WER on test with its 95 % interval, %", list(rates), {"WER": wer}, "WER, %", {"WER": reach})
    table = Table("Systems, per cent", HEADER, table_rows(results))
    return Section("systems", "Systems", [*warnings, table, Note(LEGEND.strip()), chart])


def gains_section(results: Results) -> Section:
    """Gain retained and the members' accuracy, of speech."""
    rows = gain_rows(results)
    blocks: list[Note | Table] = [
        Note("The student's gain over the baseline as a share of the ensemble's."),
        Table("Gain retained", ("figure", "dev", "test"), rows),
    ]
    if any("not defined" in row for row in rows):
        text = "Not defined: the ensemble is no better than that baseline, or one of the three was not decoded."
        blocks.append(Note(text))
    if doubt := doubted_gain(results):
        blocks.append(Note(doubt, warning=True))
    members = results["members"]
    if members["members"]:
        accuracies = {
            **{f"member {number}": shares for number, shares in enumerate(members["members"])},
            "the members' mean": members["members_mean"],
            "ensemble": members["ensemble"],
        }
        accuracies |= {
            name: system["frame_accuracy"] for name, system in results["systems"].items() if name == "student"
        }
        shares = [(name, *(percent(by_split[split]) for split in SCORED)) for name, by_split in accuracies.items()]
        title = "Frame accuracy of members, ensemble and student, per cent"
        blocks.append(Table(title, ("network", *SCORED), shares))
    return Section("gain", "Gain retained", blocks)


def vocabulary_section(results: Results) -> Section | None:
    """Test words in and out of the vocabulary, and what lattices hold, where the results have them."""
    systems, blocks = results["systems"], []
    rows = []
    for name, system in systems.items():
        if found := system.get("by_vocabulary", {}).get("test"):
            known, unknown = found["in"], found["out"]
            recalled = f"{unknown['recalled']} of {unknown['words']}"
            rows.append((name, percent(known["error_rate"]), recalled, str(unknown["proposed"])))
    if rows and unknown["words"]:
        blocks.append(
            Table(
                "Test words in the vocabulary, per cent substituted or deleted; out of it, how many were recognised",
                ("system", "errors, in", "recalled, out", "proposed, out"),
                rows,
            )
        )
    rows = []
    for name, system in systems.items():
        if lattice := system.get("lattice"):
            rescored = lattice["rescored"]["wer"]["test"]["wer"] if "rescored" in lattice else None
            rates = (system["wer"]["test"]["wer"], rescored, lattice["oracle_wer"]["test"])
            rows.append((name, *map(percent, rates)))
    if rows:
        title = (
            "Lattices, WER on test, per cent: of the search, by another n-gram, of the sentence with the fewest errors"
        )
        blocks.append(Table(title, ("system", "WER", "rescored", "oracle"), rows))
    return Section("vocabulary", "Vocabulary and lattices", blocks) if blocks else None


def training_section(histories: Mapping[str, History]) -> Section | None:
    """Frame accuracy and cross-entropy by epoch of each network that has a history."""
    if not histories:
        return None
    blocks: list[Any] = [
        Note(
            "Train as training sees it, with dropout; dev without. Cross-entropy is with the alignment for all, though "
            "the student was trained towards the teachers' posteriors too."
        )
    ]
    figures = (
        ("Frame accuracy by epoch, %", "frame accuracy, %", 100, ("dev_frame_accuracy", "train_frame_accuracy")),
        ("Cross-entropy on dev by epoch, nats", "cross-entropy, nats", 1, ("dev_cross_entropy",)),
    )
    for title, axis, scale, keys in figures:
        lines = [
            line
            for number, (name, history) in enumerate(histories.items())
            for key in keys
            if (line := _line(name, history, key, scale, first=number == 0))
        ]
        blocks.append(curves(title, lines, "epoch", axis))
    rows = [
        (
            name,
            str(row["epoch"]),
            percent(row.get("train_frame_accuracy")),
            percent(row.get("dev_frame_accuracy")),
            "–" if row.get("dev_cross_entropy") is None else f"{row['dev_cross_entropy']:.3f}",
        )
        for name, history in histories.items()
        for row in history
    ]
    header = ("network", "epoch", "frame acc. train, %", "frame acc. dev, %", "cross-entropy dev")
    blocks.append(Table("The curves as a table", header, rows, folded=True))
    return Section("training", "Training", blocks)


def specialists_section(results: Results) -> Section | None:
    """What specialists bring, by how many cover a state, and what they cost."""
    if "specialists" not in results:
        return None
    about = results["specialists"]
    accuracy, cost = about["accuracy"], about["cost"]
    systems = {
        "generalist": {split: accuracy[split]["without"] for split in SCORED},
        f"generalist + {about['count']} specialists": {split: accuracy[split]["with"] for split in SCORED},
    }
    rows = [(name, *(percent(shares[split]) for split in SCORED)) for name, shares in systems.items()]
    covering = [
        (
            str(row["specialists"]),
            f"{row['frames']:,}",
            *(percent(row[key]) for key in ("without", "with", "relative_gain")),
        )
        for row in about["by_covering"]["test"]
    ]
    clusters = [
        (str(number), ", ".join(f"{state} × {count}" for state, count in [*cluster["states"].items()][:CLUSTER_STATES]))
        for number, cluster in enumerate(about["clusters"][:CLUSTERS])
    ]
    spent = ", ".join(f"{name} {value:.1f} µs" for name, value in cost["microseconds_per_frame"].items())
    title = "Test frames by the number of specialists that cover their state, per cent"
    return Section(
        "specialists",
        "Specialists",
        [
            Table("Frame accuracy, per cent", ("system", *SCORED), rows),
            Table(title, ("specialists", "frames", "without", "with", "relative gain"), covering),
            Table("What is confused with what: states × tied states", ("cluster", "states"), clusters, labels=2),
            Note(f"A frame calls {cost['specialists_per_frame']:.2f} specialists and costs {spent}."),
        ],
    )


def classes_section(results: Results) -> Section:
    """Test errors of an image recipe's systems by class."""
    counts = results["test_images_by_class"]
    rows = [
        (
            str(label),
            f"{count:,}",
            *(str(system["test_errors_by_class"][label]) for system in results["systems"].values()),
        )
        for label, count in enumerate(counts)
    ]
    header = ("class", "test images", *(f"errors of the {name}" for name in results["systems"]))
    return Section("classes", "Errors by class", [Table("Test errors by class", header, rows)])


def stages_section(results: Results, memory: Mapping[str, int]) -> Section:
    """Seconds of each stage and, where known, its peak memory in bytes; figures of targets and language model."""
    stages = results["stages"]
    rows: list[Row] = [
        (
            name,
            f"{row['seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            f"{memory[name] / MEBIBYTE:,.0f}" if name in memory else "–",
        )
        for name, row in stages.items()
    ]
    sums = (f"{sum(row[key] for row in stages.values()):.1f}" for key in ("seconds", "cpu_seconds"))
    largest = f"{max(memory.values()) / MEBIBYTE:,.0f}" if memory else "–"
    rows.append(("sum; largest", *sums, largest))
    header = ("stage", "wall, s", "CPU, s", "peak memory, MiB")
    blocks: list[Any] = [
        Table("Stages before this one", header, rows),
        Note("Memory: of the stage's main process, without its workers."),
    ]
    if stages:
        series = {
            "wall": [row["seconds"] / 60 for row in stages.values()],
            "CPU": [row["cpu_seconds"] / 60 for row in stages.values()],
        }
        blocks.append(dots("Minutes by stage", list(stages), series, "minutes"))
    targets = results["targets"]
    kept = "all states" if targets["top_k"] is None else f"the {targets['top_k']} most probable states"
    blocks.append(
        Note(
            f"Targets: {targets['frames']:,} frames, {kept}, {targets['bytes_per_frame']:.1f} bytes a frame, mean tail "
            f"mass {tail_mass(targets)}."
        )
    )
    if "lang" in results:
        language = "; ".join(
            f"{split}: perplexity {results['lang'][split]['perplexity']:.1f}, "
            f"{percent(results['lang'][split]['oov_rate'])} % unknown words"
            for split in SCORED
        )
        blocks.append(Note(f"Language model, {language}."))
    return Section("stages", "Time and memory", blocks)


def _line(name: str, history: History, key: str, scale: float, first: bool) -> Line | None:
    points = [(row["epoch"], scale * row[key]) for row in history if row.get(key) is not None]
    if not points:
        return None
    x, y = zip(*points, strict=True)
    train = key.startswith("train")
    suffix, dash = (", train", "dot") if train else ("", "solid")
    if name == "student":
        return Line(name + suffix, x, y, style(name)[0], legend=name + suffix, dash=dash)
    return Line(name + suffix, x, y, QUIET, legend=f"members{suffix}" if first else None, width=1.2, dash=dash)
