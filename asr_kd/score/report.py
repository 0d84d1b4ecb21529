"""report.md: the run's table, figures and worst utterances, for reading beside results.json."""

import re
from collections.abc import Mapping
from textwrap import indent
from typing import Any

from asr_kd.distill.targets import tail_mass
from asr_kd.files import write_text
from asr_kd.nn.metrics import read_history
from asr_kd.recipe import Recipe
from asr_kd.score.listing import GAP, align_hypotheses, format_columns, worst_utterances
from asr_kd.score.plots import History, plot_systems, plot_training
from asr_kd.score.results import Results
from asr_kd.score.table import HEADER, doubted_gain, gain_rows, markdown_table, percent, table_rows
from asr_kd.score.wer import SCORED, Transcripts
from asr_kd.workspace import Workspace

CLUSTERS_SHOWN, CLUSTER_STATES = 3, 12
LEGEND = """\
Per cent. Frame accuracy: share of frames whose most probable tied state is the forced alignment's. WER on
test with its 95 % bootstrap interval over utterances. RTF: CPU seconds per second of speech. p: paired
bootstrap probability of fewer errors than the baseline.
"""


def write_report(recipe: Recipe, work: Workspace, results: Results, transcripts: Transcripts) -> None:
    """Write plots/*.png, then report.md, which shows them."""
    plot_training(work.plots / "training.png", read_histories(work, recipe.teachers.members))
    plot_systems(work.plots / "systems.png", results)
    sections = [
        _heading(recipe, results),
        _warnings(results),
        markdown_table(HEADER, table_rows(results)),
        LEGEND,
        _gains(results),
        _vocabulary(results),
        _lattices(results),
        _specialists(results),
        "![systems](plots/systems.png)\n\n![training](plots/training.png)\n",
        _corpus(results),
        _graphs(results),
        _stages(results),
        _worst(recipe.score.worst_utterances, transcripts),
    ]
    write_text(work.report, "\n".join(section for section in sections if section))


def read_histories(work: Workspace, members: int) -> dict[str, History]:
    """Training histories (one row an epoch) of the members and then the student, of those that exist."""
    folders = [*(work.member(index) for index in range(members)), work.model("student")]
    histories = {folder.name: read_history(folder) for folder in folders}
    return {name: history for name, history in histories.items() if history}


def escape_markdown(text: str) -> str:
    """`text` with Markdown's special characters escaped: ids and descriptions come from the user's files."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", text)


def specialists_markdown(about: dict[str, Any], student: Mapping[str, float | None] | None) -> str:
    """models/specialists.json: accuracy without, with, and in one network; by how many cover a state; three clusters.

    student: frame accuracy of the network distilled from them, by split; None without one.
    """
    accuracy, cost = about["accuracy"], about["cost"]["microseconds_per_frame"]
    systems: dict[str, Mapping[str, float | None]] = {
        "generalist": {split: accuracy[split]["without"] for split in SCORED},
        f"generalist + {about['count']} specialists": {split: accuracy[split]["with"] for split in SCORED},
    }
    if student is not None:
        systems["one network, distilled from them"] = student
    covering = [
        (
            str(row["specialists"]),
            f"{row['frames']:,}",
            percent(row["without"]),
            percent(row["with"]),
            percent(row["relative_gain"]),
        )
        for row in about["by_covering"]["test"]
    ]
    clusters = [
        (str(number), ", ".join(f"{state} × {count}" for state, count in [*cluster["states"].items()][:CLUSTER_STATES]))
        for number, cluster in enumerate(about["clusters"][:CLUSTERS_SHOWN])
    ]
    return (
        "Frame accuracy, per cent.\n\n"
        + markdown_table(
            ("system", "dev", "test"), [(name, percent(s["dev"]), percent(s["test"])) for name, s in systems.items()]
        )
        + "\nTest frames by the number of specialists that cover their state:\n\n"
        + markdown_table(("specialists", "frames", "without", "with", "relative gain"), covering)
        + "\nWhat is confused with what: phone and HMM state × tied states of it in the cluster.\n\n"
        + markdown_table(("cluster", "states"), clusters)
        + f"\nA frame calls {about['cost']['specialists_per_frame']:.2f} specialists and costs "
        + ", ".join(f"{name} {spent:.1f} µs" for name, spent in cost.items())
        + f" ({about['cost']['threads']} threads).\n"
    )


def _heading(recipe: Recipe, results: Results) -> str:
    hours = ", ".join(f"{split} {60 * hours:.1f} min" for split, hours in results["hours"].items())
    description = f"{escape_markdown(recipe.description)}\n\n" if recipe.description else ""
    return (
        f"# {escape_markdown(recipe.name)}\n\n{description}"
        f"{hours}; {results['num_pdfs']} tied states; seed {recipe.seed}. "
        "Recipe as run: `recipe.yaml`; machine and packages: `environment.json`.\n"
    )


def _warnings(results: Results) -> str:
    return "".join(f"> **Implausible:** {warning}\n>\n" for warning in results["warnings"])


def _gains(results: Results) -> str:
    rows = gain_rows(results)
    undefined = any("not defined" in row for row in rows)
    note = "\nNot defined: the ensemble is no better than that baseline, or one of the three was not decoded.\n"
    doubt = doubted_gain(results)
    return (
        "## Gain retained\n\nThe student's gain over the baseline as a share of the ensemble's.\n\n"
        + markdown_table(("figure", "dev", "test"), rows)
        + (note if undefined else "")
        + (f"\n{doubt}\n" if doubt else "")
    )


def _vocabulary(results: Results) -> str:
    """Test words in and out of the vocabulary; nothing where all are in it."""
    rows = []
    for name, system in results["systems"].items():
        known, unknown = (system["by_vocabulary"]["test"][where] for where in ("in", "out"))
        recall = None if unknown["error_rate"] is None else 1 - unknown["error_rate"]
        recalled = f"{unknown['recalled']} of {unknown['words']}"
        rows.append((name, percent(known["error_rate"]), recalled, percent(recall), str(unknown["proposed"])))
    if not unknown["words"]:
        return ""
    header = ("system", "errors, in", "recalled, out", "per cent", "proposed, out")
    return (
        "## Words in and out of the vocabulary\n\nTest words in the vocabulary: per cent "
        "substituted or deleted. Words out of it: how many were recognised, and how many such words the hypotheses "
        "propose.\n\n" + markdown_table(header, rows)
    )


def _lattices(results: Results) -> str:
    """Test WER of the search, after rescoring, and at best; nothing without lattices."""
    rows = []
    for name, system in results["systems"].items():
        if lattice := system.get("lattice"):
            rescored = lattice["rescored"]["wer"]["test"]["wer"] if "rescored" in lattice else None
            figures = (system["wer"]["test"]["wer"], rescored, lattice["oracle_wer"]["test"])
            rows.append((name, *map(percent, figures), f"{lattice['sentences']:.0f}", f"{lattice['search_rtf']:.2f}"))
    if not rows:
        return ""
    header = ("system", "WER", "rescored", "oracle", "sentences", "RTF of the lattices")
    return (
        "## Lattices\n\nPer cent of test words. Rescored: with another n-gram in the graph's place. Oracle: of each "
        "lattice the sentence with the fewest errors.\n\n" + markdown_table(header, rows)
    )


def _specialists(results: Results) -> str:
    """What the specialists bring; nothing without them."""
    if "specialists" not in results:
        return ""
    student = results["systems"].get("student")
    accuracy = student["frame_accuracy"] if student else None
    return "## Specialists\n\n" + specialists_markdown(results["specialists"], accuracy)


def _corpus(results: Results) -> str:
    lang, targets = results["lang"], results["targets"]
    language = "; ".join(
        f"{split}: perplexity {lang[split]['perplexity']:.1f}, {percent(lang[split]['oov_rate'])} % unknown"
        for split in SCORED
    )
    kept = "all states" if targets["top_k"] is None else f"the {targets['top_k']} most probable states"
    return (
        f"## Language model and targets\n\nLanguage model, {language}.\n\n"
        f"Targets: {targets['frames']:,} frames, {kept}, {targets['bytes_per_frame']:.1f} bytes a frame, "
        f"mean tail mass {tail_mass(targets)}.\n"
    )


def _graphs(results: Results) -> str:
    """A line on the size and the cost of the search graphs."""
    graphs = [
        f"{tree} {graph['states']:,} states, {graph['arcs']:,} arcs, {graph['bytes'] / 1e6:.1f} MB, made in "
        f"{graph['seconds']:.1f} CPU seconds by a process of at most {graph['peak_rss_mb']:,} MiB"
        for tree, graph in results["graphs"].items()
    ]
    return f"Search graphs: {'; '.join(graphs)}.\n" if graphs else ""


def _stages(results: Results) -> str:
    stages = results["stages"]
    total = {key: sum(row[key] for row in stages.values()) for key in ("seconds", "cpu_seconds")}
    rows = [
        (name, f"{row['seconds']:.1f}", f"{row['cpu_seconds']:.1f}") for name, row in (*stages.items(), ("sum", total))
    ]
    return "## Seconds\n\n" + markdown_table(("stage", "wall", "CPU"), rows)


def _worst(number: int, transcripts: Transcripts) -> str:
    """Where the student errs most on test, beside the baseline; without them, the last and first systems."""
    tests = {name: hypotheses["test"] for name, hypotheses in transcripts.hypotheses.items()}
    shown = "student" if "student" in tests else list(tests)[-1]
    beside = "baseline" if "baseline" in tests else next(iter(tests))
    references = transcripts.references["test"]
    entries = []
    for key, errors in worst_utterances(references, tests[shown], number):
        columns = align_hypotheses(references[key], tests[beside][key], tests[shown][key])
        listing = indent(format_columns(columns, ("reference", beside, shown)), "    ")
        entries.append(f"**{escape_markdown(key)}**, {len(references[key])} words, errors: {errors}\n\n{listing}\n")
    return (
        f"## Worst test utterances of the {shown}\n\n"
        f"Wrong words in capitals, `{GAP}` where a word is missing.\n\n" + "\n".join(entries)
    )
