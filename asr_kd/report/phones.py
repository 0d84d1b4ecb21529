"""Sections of the page made of posteriors: accuracy by phone, what the student took over, calibration."""

import numpy as np

from asr_kd.report.charts import bars, dots, reliability
from asr_kd.report.confusion import Confusion, phone_of
from asr_kd.report.document import Note, Row, Section, Table
from asr_kd.score.table import percent

Systems = tuple[str, str, str]  # baseline, teachers, student
FEWEST_FRAMES, CONFUSIONS, STATES, NEIGHBOURS = 500, 12, 6, 5


def posterior_sections(confusion: Confusion, total: int, unit: str = "phone") -> list[Section]:
    """total: test frames, of which `confusion` has all or a sample. unit: what classes are called; of images, class."""
    count = int(confusion.frames.sum())
    each = "frames" if unit == "phone" else "images"
    sample = f"all {count:,}" if count == total else f"{count:,} evenly spread of the {total:,}"
    where = Note(f"On {sample} test {each}.")
    names: Systems = tuple(confusion.systems)  # type: ignore[assignment]
    return [
        _accuracy(confusion, names, where, unit),
        Section("inherited", "What the student took over", [where, *_inherited(confusion, names, unit)]),
        _calibration(confusion, names, where),
    ]


def _accuracy(confusion: Confusion, names: Systems, where: Note, unit: str) -> Section:
    frames = confusion.by_phone(confusion.frames)
    seen = np.flatnonzero(frames)
    shares = {n: confusion.by_phone(confusion.systems[n].correct)[seen] / frames[seen] for n in names}
    order = np.argsort(-shares[names[2]], kind="stable")
    labels = [confusion.phones[seen[place]] for place in order]
    values = {name: (100 * share[order]).tolist() for name, share in shares.items()}
    rows = [
        (label, f"{int(frames[seen[place]]):,}", *(percent(shares[name][place]) for name in names))
        for label, place in zip(labels, order, strict=True)
    ]
    what = "tied state is the aligned one, by that one's phone" if unit == "phone" else "class is the right one"
    return Section(
        "phones",
        f"Frame accuracy by {unit}" if unit == "phone" else f"Accuracy by {unit}",
        [
            where,
            Note(f"Share whose most probable {what}; the student's best first."),
            dots(f"Accuracy by {unit}, %", labels, values, "accuracy, %"),
            Table(f"Accuracy by {unit}, as a table", (unit, "count", *names), rows, folded=True),
        ],
    )


def _inherited(confusion: Confusion, names: Systems, unit: str) -> list:
    _, teacher, _ = names
    count = confusion.frames.sum()
    likeness = [
        (
            name,
            f"{answers.divergence / count:.3f}",
            f"{100 * mean_distance(confusion, teacher, name):.1f}",
            f"{answers.nats / count:.3f}",
        )
        for name, answers in confusion.systems.items()
    ]
    states = f"{unit} and HMM state" if unit == "phone" else unit
    blocks: list = [
        Note(
            "A soft target says which wrong states the teachers find likely. A student that learned from them should "
            "spread its posteriors as they do, more than the baseline does, which saw the alignment alone. "
            "Member 0, the baseline, is one of the teachers."
        ),
        Table(
            "How near the systems come to the teachers",
            ("system", "KL from the teachers, nats a frame", "distance of mean posteriors, %", "cross-entropy, nats"),
            likeness,
        ),
        Note(
            "The divergence compares frame by frame. The distance is the total variation between mean posteriors of "
            f"the frames of one {states}, averaged over frames: means hide most of what single frames tell, so systems "
            "trained on one alignment are near each other there. Below, such means, tied states of one name summed, "
            f"where the student came nearest to the teachers, counted from the baseline, of at least {FEWEST_FRAMES} "
            "frames; then the confusions that moved most with the teachers. Both are the largest of many, so some are "
            "chance."
        ),
    ]
    listed: list[Row] = []
    for row in closest_states(confusion, names):
        means = {name: mean_posteriors(confusion, name)[row] for name in names}
        columns = np.argsort(-means[teacher], kind="stable")[: NEIGHBOURS + 1]
        labels = [confusion.states[column] for column in columns]
        series = {name: mean[columns].tolist() for name, mean in means.items()}
        title = f"Frames of {confusion.states[row]} ({int(confusion.frames[row]):,})"
        blocks.append(bars(title, labels, series, "mean posterior"))
        for place, label in enumerate(labels):
            shares = [f"{100 * series[name][place]:.1f}" for name in names]
            listed.append((confusion.states[row], label, *shares))
    header = ("frames of", "taken for", *names)
    if listed:
        blocks.append(Table("Mean posteriors, %, as a table", header, listed, labels=2, folded=True))
    rows = [
        (
            f"{true} as {other}",
            f"{frames:,}",
            *(f"{100 * share:.2f}" for share in shares),
        )
        for true, other, frames, shares in taken_over(confusion, names)
    ]
    title = f"Confusions of {unit}s that moved with the teachers: mean posterior of the wrong {unit}, %"
    blocks.append(Table(title, ("confusion", "count", *names), rows))
    return blocks


def mean_posteriors(confusion: Confusion, system: str) -> np.ndarray:
    """(states, states): mean posterior of the column's state over the row's frames; 0 for a row without frames."""
    return confusion.systems[system].mass / np.maximum(confusion.frames, 1)[:, None]


def distances(confusion: Confusion, first: str, second: str) -> np.ndarray:
    """(states,) total variation distance between two systems' mean posteriors of each state's frames."""
    return 0.5 * np.abs(mean_posteriors(confusion, first) - mean_posteriors(confusion, second)).sum(1)


def mean_distance(confusion: Confusion, first: str, second: str) -> float:
    """The mean of `distances` over frames."""
    return float(distances(confusion, first, second) @ confusion.frames / confusion.frames.sum())


def closest_states(confusion: Confusion, names: Systems) -> list[int]:
    """At most STATES rows, one a phone, where baseline − teachers most exceeds student − teachers."""
    baseline, teacher, student = names
    gain = distances(confusion, baseline, teacher) - distances(confusion, student, teacher)
    chosen: dict[str, int] = {}
    for row in np.argsort(-gain, kind="stable").tolist():
        if confusion.frames[row] >= min(FEWEST_FRAMES, confusion.frames.max()) and gain[row] > 0:
            chosen.setdefault(phone_of(confusion.states[row]), row)
    return list(chosen.values())[:STATES]


def taken_over(confusion: Confusion, names: Systems) -> list[tuple[str, str, int, list[float]]]:
    """(phone, other phone, frames, mean posterior of the other by system): where teachers and student both differ
    from the baseline in the same direction, by the smaller of the two differences, the largest first.
    """
    frames = confusion.by_phone(confusion.frames)
    enough = frames >= min(FEWEST_FRAMES, frames.max())
    shares = [confusion.by_phone(confusion.systems[n].mass) / np.maximum(frames, 1)[:, None] for n in names]
    baseline, teacher, student = shares
    common = np.minimum(np.abs(teacher - baseline), np.abs(student - baseline))
    common *= ((teacher - baseline) * (student - baseline) > 0) & enough[:, None]
    np.fill_diagonal(common, 0)
    rows, columns = np.unravel_index(np.argsort(-common, axis=None, kind="stable")[:CONFUSIONS], common.shape)
    phones = confusion.phones
    return [
        (phones[row], phones[column], int(frames[row]), [float(share[row, column]) for share in shares])
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if common[row, column] > 0
    ]


def _calibration(confusion: Confusion, names: Systems, where: Note) -> Section:
    series, rows = {}, []
    for name in names:
        frames, confidence, right = confusion.systems[name].bins.T
        filled = frames > 0
        means, shares = confidence[filled] / frames[filled], right[filled] / frames[filled]
        series[name] = (means.tolist(), shares.tolist())
        sure = float(confidence.sum() / frames.sum())
        figures = (confusion.accuracy(name), sure, confusion.calibration_error(name))
        rows.append((name, *map(percent, figures)))
    bins = [
        (name, f"{mean:.3f}", f"{share:.3f}")
        for name, points in series.items()
        for mean, share in zip(*points, strict=True)
    ]
    return Section(
        "calibration",
        "Calibration",
        [
            where,
            Note(
                "A system that is right in 70 % of the cases in which it gives its answer 0.7 lies on the dotted line; "
                "below it, it is surer than it should be. Expected calibration error: the mean distance from the line."
            ),
            reliability("Share of right answers by confidence", series),
            Table(
                "Calibration, per cent",
                ("system", "accuracy", "mean confidence", "expected calibration error"),
                rows,
            ),
            Table("The curves' points", ("system", "mean confidence", "share right"), bins, folded=True),
        ],
    )
