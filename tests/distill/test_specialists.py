from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_experiment import NETWORK, NUM_PDFS, TRAINING, distilled, toy_workspace

from asr_kd.distill.inference import SpecialistEnsemble, load_specialists
from asr_kd.distill.specialists import BalancedFrames, load_specialist, start_network
from asr_kd.distill.store import TargetStore
from asr_kd.errors import UserError
from asr_kd.experiment.figures import read_figures
from asr_kd.experiment.sharing import CellRun
from asr_kd.files import read_json, write_json
from asr_kd.nn.frames import Frames
from asr_kd.nn.inputs import load_frames
from asr_kd.nn.metrics import read_history
from asr_kd.nn.model import AcousticModel, load_model
from asr_kd.nn.posteriors import load_scorer
from asr_kd.nn.seeds import generator
from asr_kd.nn.training import evaluate
from asr_kd.pipeline import Job
from asr_kd.recipe import Network, Recipe, Specialists, SpecialistTraining, Student, Targets, Teachers
from asr_kd.recipe_file import load_recipe
from asr_kd.stages import student, teachers
from asr_kd.workspace import Workspace

PLAN = Specialists(
    count=3,
    classes=5,
    clusters_from=800,
    train=SpecialistTraining(epochs=2, batch_frames=64, learning_rate=3e-3, precision="float32"),
)
RECIPE = Recipe(
    teachers=Teachers(members=1, network=NETWORK, train=TRAINING),
    specialists=PLAN,
    targets=Targets(top_k=None),
    student=Student(train=TRAINING, temperature=2.0, hard_weight=0.3),
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The toy experiment after stages 4, 5 and 6, with specialists."""
    return distilled(tmp_path_factory.mktemp("toy"), RECIPE)


def frames_of(labels: Tensor) -> Frames:
    return Frames(torch.zeros(len(labels), 2).half(), labels, ["u"], torch.tensor([0, len(labels)]))


# Sampling


@pytest.mark.parametrize("subset", [[1, 4], [0, 1, 2, 3]])
def test_an_epoch_is_half_the_subsets_frames_and_half_others(subset: list[int]) -> None:
    labels = torch.randint(6, (1000,), generator=generator((0,)))
    frames = BalancedFrames.of(frames_of(labels), torch.tensor(subset), 6)
    mine = torch.isin(labels, torch.tensor(subset))
    batches = [frames.shuffled_batches(64, (0, "order", epoch)) for epoch in (0, 0, 1)]
    first, again, next_epoch = (torch.cat(tuple(numbers)) for numbers in batches)
    assert len(first) == len(frames) == 2 * int(mine.sum())
    assert all(len(batch) == 64 for batch in batches[0][:-1])
    own, drawn = first[mine[first]], first[~mine[first]]
    assert torch.equal(own.sort().values, mine.nonzero()[:, 0])
    times = drawn.bincount(minlength=1000)[~mine]
    assert times.max() - times.min() <= 1
    assert times.sum() == mine.sum()
    assert torch.equal(first, again)
    assert not torch.equal(drawn.sort().values, next_epoch[~mine[next_epoch]].sort().values)
    # Mixed: no batch is of one kind.
    assert all(0 < int(mine[batch].sum()) < len(batch) for batch in batches[0][:-1])


def test_labels_are_places_in_the_subset_or_the_dustbin() -> None:
    frames = BalancedFrames.of(frames_of(torch.tensor([5, 2, 0, 7, 2, 6])), torch.tensor([2, 5, 7]), 9)
    assert frames.labels.tolist() == [1, 0, 3, 2, 0, 3]
    numbers = torch.cat(frames.ordered_batches(4))
    assert len(numbers) == len(frames) == 8
    assert sorted(set(numbers.tolist())) == [0, 1, 2, 3, 4, 5]
    assert torch.allclose(frames.log_prior(4, 0.0).exp(), torch.tensor([2, 1, 1, 2]) / 6)


@pytest.mark.parametrize("subset", [[3], [0, 1]])
def test_a_subset_of_all_frames_or_none_is_refused(subset: list[int]) -> None:
    with pytest.raises(UserError, match=r"specialists\.classes: [04] of 4 frames"):
        BalancedFrames.of(frames_of(torch.tensor([0, 1, 1, 0])), torch.tensor(subset), 4)


@pytest.mark.parametrize("subset", [[1, 3], [0, 2, 4, 5]])
def test_the_dustbin_correction_is_bayes_rule(subset: list[int]) -> None:
    """A world of 6 states and 10 observations, counted: what a perfect specialist learns from balanced frames and
    what is true differ by the correction alone.
    """
    states, observations = 6, 10
    counts = torch.randint(1, 30, (states, observations), generator=generator((2,)))
    counts[0] *= 20  # a frequent state, so that one subset is more than half of the frames
    labels = torch.repeat_interleave(torch.arange(states), counts.sum(1))
    seen = torch.cat([torch.repeat_interleave(torch.arange(observations), row) for row in counts])
    frames = BalancedFrames.of(frames_of(labels), torch.tensor(subset), states)

    def posteriors(times: Tensor) -> Tensor:
        """(observations, classes + 1): shares of the subset's states and the others when frames count `times`."""
        table = torch.zeros(observations, len(subset) + 1, dtype=torch.float64)
        table.index_put_((seen, frames.labels), times.double(), accumulate=True)
        return table / table.sum(1, keepdim=True)

    mine = torch.isin(labels, torch.tensor(subset))
    drawn = torch.where(mine, 1.0, mine.sum() / (~mine).sum())  # expected draws of each frame in an epoch
    logits = posteriors(drawn).log()
    logits[:, -1] += frames.dustbin_correction
    truth = posteriors(torch.ones(len(labels)))
    assert torch.allclose(logits.softmax(1), truth, atol=1e-9)
    assert not torch.allclose(posteriors(drawn), truth, atol=0.02)


def test_the_draws_of_an_epoch_are_those_the_correction_assumes() -> None:
    labels = torch.randint(6, (600,), generator=generator((1,)))
    frames = BalancedFrames.of(frames_of(labels), torch.tensor([0, 4]), 6)
    mine, epochs = torch.isin(labels, torch.tensor([0, 4])), 400
    draws = sum(torch.cat(frames.shuffled_batches(99, (epoch,))).bincount(minlength=600) for epoch in range(epochs))
    assert (draws[mine] == epochs).all()
    share = int(mine.sum()) / int((~mine).sum())
    # Each other frame is drawn in an epoch or not: binomial, 5 standard deviations over 400 frames.
    assert (draws[~mine] / epochs - share).abs().max() < 5 * (share * (1 - share) / epochs) ** 0.5


# The network


def test_a_specialist_starts_as_its_generalist() -> None:
    generalist = AcousticModel(Network(left=1, right=1, layers=2, width=16, norm="batch"), 4, 9)
    generalist.initialise(generator((0,)))
    generalist.running_mean.normal_(generator=generator((1,)))
    generalist.mean, generalist.scale = torch.randn(4), torch.rand(4)
    generalist.log_prior = torch.randn(9, generator=generator((2,))).log_softmax(0)
    subset, others = torch.tensor([1, 2, 7]), [0, 3, 4, 5, 6, 8]
    specialist = start_network(generalist, subset).eval()
    windows = torch.randn(50, 3, 4, generator=generator((3,)))
    with torch.no_grad():
        ours, theirs = specialist(windows), generalist.eval()(windows)
    assert ours.shape == (50, 4)
    assert torch.allclose(ours[:, :-1], theirs[:, subset], atol=1e-5)
    assert torch.equal(specialist.mean, generalist.mean)
    assert (ours[:, -1] <= theirs[:, others].logsumexp(1) + 1e-5).all()
    assert torch.equal(specialist.log_prior, torch.full((4,), 0.25).log())


def test_the_dustbin_starts_at_the_log_sum_where_the_others_have_their_prior() -> None:
    generalist = AcousticModel(Network(left=0, right=0, layers=0), 2, 6)
    generalist.log_prior = torch.randn(6, generator=generator((2,))).log_softmax(0)
    with torch.no_grad():
        generalist.weights[0].zero_()
        generalist.biases[0].copy_(generalist.log_prior + 0.7)
        logits = start_network(generalist, torch.tensor([0, 3]))(torch.zeros(1, 1, 2))
    others = generalist.log_prior[[1, 2, 4, 5]]
    assert logits[0, -1] == pytest.approx(float(others.logsumexp(0)) + 0.7, abs=1e-5)


# The stages


def test_the_stage_trains_each_clusters_specialist(work: Workspace) -> None:
    generalist = load_model(work.member(0))
    for index in range(PLAN.count):
        description = read_json(work.specialist(index) / "model.json")
        history = read_history(work.specialist(index))
        subset = torch.tensor(description["classes"])
        assert description["num_pdfs"] == PLAN.classes + 1 == len(subset) + 1
        assert description["seed"] == [0, "specialist", index]
        dev = BalancedFrames.of(load_frames(work, NETWORK, "dev"), subset, NUM_PDFS)
        start = start_network(generalist, subset).eval()
        before = evaluate(start, dev.standardised(start), torch.float32)
        assert max(row["dev_frame_accuracy"] for row in history) > before["dev_frame_accuracy"]


def test_a_loaded_specialist_is_corrected(work: Workspace) -> None:
    """As much in the dustbin as there is, on the average, and not half of everything."""
    name = read_json(work.specialist(0) / "model.json")["generalist"]
    corrected, subset = load_specialist(work.specialist(0), name)
    raw = load_model(work.specialist(0))
    frames = load_frames(work, NETWORK, "dev")
    windows = frames.standardised(raw).windows(torch.arange(len(frames)), 1, 1).float()
    truth = 1 - float(torch.isin(frames.labels, subset).double().mean())
    with torch.no_grad():
        sure, unsure = (float(model(windows).softmax(1)[:, -1].mean()) for model in (corrected, raw))
    own = float(raw.log_prior[:-1].exp().sum())
    difference = (corrected.biases[-1] - raw.biases[-1])[-1].detach()
    assert float(difference) == pytest.approx(float(torch.tensor((1 - own) / own).log()), abs=0.01)
    assert abs(sure - truth) < abs(unsure - truth)


def test_a_specialist_of_another_generalist_is_refused(work: Workspace) -> None:
    with pytest.raises(UserError, match=r"specialist-00/model\.json: a specialist of another generalist"):
        load_specialist(work.specialist(0), "other")


def test_the_targets_are_the_combined_posteriors(work: Workspace) -> None:
    system, frames = load_specialists(work, PLAN), load_frames(work, NETWORK, "train")
    standardised, store = frames.standardised(system.models[0]), TargetStore(work.targets)
    with torch.no_grad():
        expected = system.log_posteriors(system.windows(standardised, torch.arange(len(frames))))
    stored = store.gather(store.rows_of(frames).numpy()).log_post
    assert torch.allclose(stored.exp(), expected.exp(), atol=2e-3)
    alone = load_scorer(work, ["member-00"]).log_posteriors("train", frames.utterances[0])
    assert (stored[: len(alone)].exp() - torch.from_numpy(alone).exp()).abs().max() > 0.05
    assert set(store.meta["teachers"]) == {"member-00", "specialist-00", "specialist-01", "specialist-02"}


def test_targets_without_the_specialists_are_refused(work: Workspace) -> None:
    for changed in (None, PLAN.model_copy(update={"active_classes": 2})):
        other = RECIPE.model_copy(update={"specialists": changed})
        with pytest.raises(UserError, match="of the soft targets is"):
            student.run(Job(other, work))


def test_another_n_trains_nothing_again(work: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = toy_workspace(tmp_path)
    (copy.root / "models").mkdir()
    for path in (work.root / "models").iterdir():
        (copy.root / "models" / path.name).symlink_to(path) if path.is_dir() else None
    before = {path: path.stat().st_mtime_ns for path in copy.root.glob("models/*/model.safetensors")}
    other = RECIPE.model_copy(update={"specialists": PLAN.model_copy(update={"active_classes": 3})})
    teachers.run(Job(other, copy))
    assert {path: path.stat().st_mtime_ns for path in copy.root.glob("models/*/model.safetensors")} == before
    calls = [read_json(root.specialists)["cost"]["specialists_per_frame"] for root in (work, copy)]
    assert calls[0] < calls[1]


def test_the_figures_are_those_of_the_definition(work: Workspace) -> None:
    about, system = read_json(work.specialists), load_specialists(work, PLAN)
    assert isinstance(system, SpecialistEnsemble)
    assert about["parameters"] == system.parameters == sum(m.parameter_count for m in system.models)
    for split in ("dev", "test"):
        frames = load_frames(work, NETWORK, split)
        rows, labels = torch.arange(len(frames)), frames.labels
        with torch.no_grad():
            windows = system.windows(frames.standardised(system.models[0]), rows)
            alone, together = (f(windows).argmax(1) == labels for f in (system.models[0], system.log_posteriors))
        accuracy = about["accuracy"][split]
        assert accuracy["frames"] == len(frames)
        assert accuracy["without"] == pytest.approx(float(alone.double().mean()))
        assert accuracy["with"] == pytest.approx(float(together.double().mean()))
        covering = torch.tensor([sum(int(label) in subset.tolist() for subset in system.subsets) for label in labels])
        assert sum(row["frames"] for row in about["by_covering"][split]) == len(frames)
        for row in about["by_covering"][split]:
            these = covering == row["specialists"]
            assert row["frames"] == int(these.sum())
            without, with_ = float(alone[these].double().mean()), float(together[these].double().mean())
            assert (row["without"], row["with"]) == (pytest.approx(without), pytest.approx(with_))
            assert row["relative_gain"] == pytest.approx(with_ / without - 1)
    assert [cluster["classes"] for cluster in about["clusters"]] == [PLAN.classes] * PLAN.count
    assert sum(cluster["nearest"] for cluster in about["clusters"]) == NUM_PDFS
    assert all(sum(cluster["states"].values()) == PLAN.classes for cluster in about["clusters"])
    assert set(about["cost"]["microseconds_per_frame"]) == {"generalist", "specialists", "inference"}


def test_an_experiment_counts_the_gain_from_the_generalist(work: Workspace) -> None:
    cell = CellRun("cell", 0, work.root, RECIPE)
    for stage in ("teachers", "student"):
        write_json(work.record(stage), {"fingerprint": cell.fingerprints[stage], "cpu_seconds": 1.0})
    figures, accuracy = read_figures(cell), read_json(work.specialists)["accuracy"]
    for split in ("dev", "test"):
        generalist, together = accuracy[split]["without"], accuracy[split]["with"]
        student = read_json(work.model("student") / "accuracy.json")[split]["frame_accuracy"]
        assert figures[f"teachers.frame_accuracy.{split}"] == together
        assert figures[f"teachers.members_mean.{split}"] == generalist
        gain = (student - generalist) / (together - generalist) if together > generalist else None
        assert figures.get(f"gain_retained.{split}") == (gain and pytest.approx(gain))


def test_decoding_specialists_needs_their_section(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("decode: {systems: [baseline, specialists]}\n")
    with pytest.raises(UserError, match=r"r\.yaml: decode\.systems: names specialists"):
        load_recipe(recipe)
    recipe.write_text("decode: {systems: [specialists]}\nspecialists: {train: {epochs: 2}}\n")
    assert load_recipe(recipe).specialists == Specialists(train=SpecialistTraining(epochs=2, learning_rate=3e-4))
