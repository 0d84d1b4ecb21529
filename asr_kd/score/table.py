"""The table of systems, for the terminal and for report.md."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from asr_kd.score.results import Results
from asr_kd.score.wer import SCORED

SIGNIFICANT = 0.95

Row = tuple[str, ...]
HEADER = (
    "system",
    "params",
    "frame acc. dev",
    "frame acc. test",
    "WER dev",
    "WER test",
    "RTF",
    "p",
    "ins/del/sub",
)


def table_rows(results: Results) -> list[Row]:
    """One row of HEADER's columns per system: accuracies and error rates in per cent, a dash for none."""
    rows: list[Row] = []
    for name, system in results["systems"].items():
        accuracy, dev, test = system["frame_accuracy"], system["wer"]["dev"], system["wer"]["test"]
        low, high = test["ci95"]
        significance = results["significance"].get(f"{name}_vs_baseline")
        rows.append(
            (
                f"{name} × {system['members']}" if "members" in system else name,
                f"{system['parameters'] / 1e6:.2f} M",
                percent(accuracy["dev"]),
                percent(accuracy["test"]),
                percent(dev["wer"]),
                f"{percent(test['wer'])} [{percent(low)}, {percent(high)}]",
                f"{system['rtf']:.2f}",
                "–" if significance is None else f"{significance['p_better']:.3f}",
                f"{test['ins']}/{test['del']}/{test['sub']}",
            )
        )
    return rows


def terminal_table(results: Results) -> Table:
    """The same table without its last column, which 80 characters have no room for, and the gains retained."""
    title = f"{results['recipe']} ({results['num_pdfs']} tied states), per cent"
    gain, doubted = results["gain_retained"], doubted_gain(results) is not None
    wer = "– (the ensemble's own gain is not significant)" if doubted else percent(gain["wer"])
    caption = f"gain retained: frame accuracy {percent(gain['frame_accuracy'])}, WER {wer}"
    table = Table(title=title, caption=caption, box=None, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(HEADER[:-1]):
        table.add_column(name.replace(" ", "\n"), justify="right" if number else "left", no_wrap=True)
    for row in table_rows(results):
        table.add_row(*map(Text, row[:-1]))
    return table


def doubted_gain(results: Results) -> str | None:
    """Why the share retained of the ensemble's gain in WER says little; None where that gain is significant."""
    p = results["significance"].get("ensemble_vs_baseline", {}).get("p_better", 1.0)
    if p >= SIGNIFICANT:
        return None
    return f"The ensemble's own gain in WER is not significant on test (p = {p:.3f}): its quotient says little."


def gain_rows(results: Results) -> list[Row]:
    """What the student keeps of the ensemble's gain, on dev and on test; with 95 % intervals where there are some."""

    def share(gain: float | None, ends: list[float] | None = None) -> str:
        reach = f" [{percent(ends[0])}, {percent(ends[1])}]" if ends else ""
        return "not defined" if gain is None else f"{percent(gain)} %{reach}"

    dev, test, mean = (results[f"gain_retained{key}"] for key in ("_dev", "", "_vs_members_mean"))
    ends = results.get("gain_retained_vs_members_mean_ci95", {})  # not in those of older releases
    means = [share(mean[split], ends.get(split)) for split in SCORED]
    return [
        ("frame accuracy, baseline = member 0", share(dev["frame_accuracy"]), share(test["frame_accuracy"])),
        ("frame accuracy, baseline = the members' mean", *means),
        ("WER, baseline = member 0", share(dev["wer"]), share(test["wer"])),
    ]


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """A Markdown table, first column to the left, the others to the right."""
    rule = [":---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}"
