"""Sums over frames against their definitions, on a miniature experiment."""

import numpy as np
import pytest

from asr_kd.pipeline import Job
from asr_kd.report.confusion import BINS, Answers, Confusion, measure
from asr_kd.report.document import Table
from asr_kd.report.panel import Panel
from asr_kd.report.phones import closest_states, mean_distance, posterior_sections, taken_over

PHONES = {"SIL": 5, "SPN": 5, "AA": 3, "S": 3}


@pytest.fixture(scope="module")
def panel(scored: Job) -> Panel:
    return Panel(scored.recipe, scored.work, "cpu")


def test_sums_are_those_of_their_definitions(panel: Panel) -> None:
    numbers = panel.sample(50)
    assert len(numbers) == 50 and numbers.diff().min() >= 1
    confusion = measure(panel, numbers, lambda batches, title: batches)
    names = [f"{phone}.{state}" for phone, states in PHONES.items() for state in range(states)]
    assert panel.states == names and confusion.states == tuple(sorted(names))
    labels = panel.labels[numbers].numpy()
    all_scores = {name: rows.double().numpy() for name, rows in panel.log_posteriors(numbers).items()}
    for name, scores in all_scores.items():
        posteriors, answers = np.exp(scores), confusion.systems[name]
        for row, true in enumerate(confusion.states):
            frames = labels == names.index(true)
            assert confusion.frames[row] == frames.sum()
            assert answers.correct[row] == (scores.argmax(1)[frames] == labels[frames]).sum()
            for column, other in enumerate(confusion.states):
                expected = posteriors[frames, names.index(other)].sum()
                assert answers.mass[row, column] == pytest.approx(expected, abs=1e-5)
        bins = np.minimum((posteriors.max(1) * BINS).astype(int), BINS - 1)
        right = scores.argmax(1) == labels
        for number in range(BINS):
            inside = bins == number
            sums = [inside.sum(), posteriors.max(1)[inside].sum(), right[inside].sum()]
            assert answers.bins[number] == pytest.approx(sums, abs=1e-5)
        assert answers.nats == pytest.approx(-scores[np.arange(50), labels].sum(), rel=1e-5)
        teachers = all_scores["ensemble"]
        assert answers.divergence == pytest.approx((np.exp(teachers) * (teachers - scores)).sum(), abs=1e-4)
    assert confusion.systems["ensemble"].divergence == pytest.approx(0, abs=1e-6)
    baseline = confusion.systems["baseline"]
    assert confusion.by_phone(confusion.frames).sum() == 50
    silence = [row for row, state in enumerate(confusion.states) if state.startswith("SIL")]
    at = confusion.phones.index("SIL")
    assert confusion.by_phone(baseline.mass)[at, at] == pytest.approx(baseline.mass[np.ix_(silence, silence)].sum())


def test_the_panel_is_member_0_the_members_mean_and_the_student(panel: Panel) -> None:
    scores = panel.log_posteriors(panel.sample(None))
    windows = panel.teachers.windows(panel._teachers_see, panel.sample(None))
    members = [model(windows).softmax(1) for model in panel.teachers.models]
    assert scores["baseline"].exp().numpy() == pytest.approx(members[0].detach().numpy(), abs=1e-5)
    mean = (members[0] + members[1]) / 2
    assert scores["ensemble"].exp().numpy() == pytest.approx(mean.detach().numpy(), abs=1e-5)
    assert all(rows.exp().sum(1).numpy() == pytest.approx(1, abs=1e-4) for rows in scores.values())


def by_hand(means: dict[str, list[list[float]]]) -> Confusion:
    """States A.0 and B.0 with 1000 and 3000 frames."""
    frames = np.array([1000.0, 3000.0])
    bins = np.array([[1000.0, 600.0, 500.0], [3000.0, 2700.0, 3000.0]])
    answers = {
        name: Answers(np.zeros(2), np.array(rows) * frames[:, None], bins, 0.0, 0.0) for name, rows in means.items()
    }
    return Confusion(("A.0", "B.0"), frames, answers)


def test_likeness_by_hand() -> None:
    confusion = by_hand(
        {
            "baseline": [[0.9, 0.1], [0.2, 0.8]],
            "ensemble": [[0.6, 0.4], [0.1, 0.9]],
            "student": [[0.7, 0.3], [0.3, 0.7]],
        }
    )
    names = ("baseline", "ensemble", "student")
    assert mean_distance(confusion, "ensemble", "baseline") == pytest.approx((0.3 * 1 + 0.1 * 3) / 4)
    assert mean_distance(confusion, "ensemble", "student") == pytest.approx((0.1 * 1 + 0.2 * 3) / 4)
    assert closest_states(confusion, names) == [0]  # in B.0 the student went the other way
    assert taken_over(confusion, names) == [("A", "B", 1000, pytest.approx([0.1, 0.4, 0.3]))]
    (table,) = [
        block
        for section in posterior_sections(confusion, 4000)
        for block in section.blocks
        if isinstance(block, Table) and block.title == "Mean posteriors, %, as a table"
    ]
    assert list(table.rows) == [("A.0", "A.0", "90.0", "60.0", "70.0"), ("A.0", "B.0", "10.0", "40.0", "30.0")]


def test_calibration_error_by_hand() -> None:
    confusion = by_hand({"baseline": [[1, 0], [0, 1]]})
    assert confusion.calibration_error("baseline") == pytest.approx((100 + 300) / 4000)
