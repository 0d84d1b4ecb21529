"""Options of stages 5 and 6 on the toy experiment: pruning, dropout, noise, the loss, classes."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from toy_experiment import NETWORK, NUM_PDFS, TRAINING, toy_workspace

from asr_kd.distill.losses import distillation_loss, logit_loss
from asr_kd.distill.noise import LogitNoise
from asr_kd.distill.store import TargetStore
from asr_kd.distill.targets import SoftTargets
from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.nn.frames import Frames
from asr_kd.nn.hashes import file_hash, joint_hash
from asr_kd.nn.inputs import load_frames, load_inputs
from asr_kd.nn.metrics import read_history
from asr_kd.nn.posteriors import load_ensemble
from asr_kd.nn.seeds import generator
from asr_kd.nn.training import Run, train
from asr_kd.pipeline import Job
from asr_kd.recipe import Noise, Recipe, Student, Targets, Teachers
from asr_kd.stages import student, targets, teachers
from asr_kd.workspace import Workspace

NAMES = ["member-00", "member-01"]
RECIPE = Recipe(
    teachers=Teachers(members=2, network=NETWORK, train=TRAINING),
    targets=Targets(top_k=4),
    student=Student(train=TRAINING),
)
PRUNED = Targets(top_k=4, pruning="random", temperatures=(2.0,))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    work = toy_workspace(tmp_path_factory.mktemp("toy"))
    teachers.run(Job(RECIPE, work))
    targets.run(Job(RECIPE, work))
    return work


@pytest.fixture
def frames(taught: Workspace) -> Frames:
    return load_frames(taught, NETWORK, "train")


def variant(taught: Workspace, path: Path, options: Targets, jobs: int = 1) -> TargetStore:
    """The same teachers' targets with other options."""
    work = toy_workspace(path)
    (work.root / "models").symlink_to(taught.root / "models")
    targets.run(Job(RECIPE.model_copy(update={"targets": options}), work, jobs=jobs))
    return TargetStore(work.targets)


def posteriors(taught: Workspace, frames: Frames) -> Tensor:
    ensemble = load_ensemble(taught, NAMES)
    with torch.inference_mode():
        windows = ensemble.windows(frames.standardised(ensemble.models[0]), torch.arange(len(frames)))
        return ensemble.log_posteriors(windows)


def student_logits(frames: Frames) -> Tensor:
    return 2 * torch.randn(len(frames), NUM_PDFS, generator=generator((7,)))


def test_pruned_targets_say_so_and_are_the_posteriors_in_the_mean(
    taught: Workspace, frames: Frames, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "asr_kd"):
        store = variant(taught, tmp_path, PRUNED)
    assert store.meta["pruning"] == "random"
    summary = read_json(store.path / "summary.json")
    assert summary["bytes_per_frame"] == 4 * 2 + 4 * 2
    assert summary["mean_tail_mass"] is None and "bytes a frame, tail mass –, agreement" in caplog.text
    soft = store.gather(np.arange(len(store)))
    assert soft.states is not None
    values = soft.log_post.exp()
    assert torch.allclose(values.sum(1), torch.ones(len(store)), atol=5e-3)
    p = (posteriors(taught, frames) / 2.0).softmax(1)
    dense = torch.zeros_like(p).scatter_add_(1, soft.states, values)
    # The mean over frames of independent draws; a value's variance is p (τ - p) with τ at most 1 / 4 here.
    error = (p * (0.25 - p).clamp_min(0)).sum(0).sqrt() / len(p)
    assert ((dense - p).mean(0).abs() <= 5 * error + 1e-3 * p.mean(0)).all()
    logits, numbers = student_logits(frames), torch.arange(len(frames))
    loss = SoftTargets(store, frames, 2.0, 0.0).loss(logits, numbers)
    assert loss.item() == pytest.approx(distillation_loss(logits, frames.labels, None, p, 2.0, 0.0).item(), rel=0.02)


@pytest.mark.parametrize("options", [PRUNED, Targets(top_k=4)])
def test_targets_do_not_depend_on_the_number_of_workers(taught: Workspace, tmp_path: Path, options: Targets) -> None:
    stores = [variant(taught, tmp_path / name, options, jobs) for name, jobs in (("a", 1), ("b", 1), ("c", 3))]
    for name in ("states-000.npy", "log_post-000.npy"):
        assert len({file_hash(store.path / name) for store in stores}) == 1


@pytest.mark.parametrize("options", [{"temperatures": (1.0, 2.0)}, {"top_k": None}])
def test_pruning_is_for_one_temperature_and_some_states(
    taught: Workspace, tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=r"targets\.pruning: random needs a top_k and one temperature"):
        variant(taught, tmp_path, PRUNED.model_copy(update=options))


def test_pruned_targets_serve_one_loss(taught: Workspace, frames: Frames, tmp_path: Path) -> None:
    store = variant(taught, tmp_path, PRUNED)
    with pytest.raises(UserError, match=r"student\.temperature: 1\.0, but the targets were pruned for 2\.0"):
        SoftTargets(store, frames, 1.0, 0.0)
    with pytest.raises(UserError, match=r"student\.loss: logits"):
        SoftTargets(store, frames, 2.0, 0.0, "logits")
    with pytest.raises(UserError, match=r"student\.noise"):
        SoftTargets(store, frames, 2.0, 0.0, noise=Noise())


def test_matching_logits_asks_for_their_temperature(taught: Workspace, frames: Frames, tmp_path: Path) -> None:
    store = variant(taught, tmp_path, Targets(top_k=4, temperatures=(2.0, 5.0)))
    with pytest.raises(UserError, match=r"student\.loss: logits needs temperature 1"):
        SoftTargets(store, frames, 2.0, 0.0, "logits")


def test_matching_logits_is_squared_error_to_the_stored_ones(taught: Workspace, frames: Frames, tmp_path: Path) -> None:
    logits, numbers, log_post = student_logits(frames), torch.arange(len(frames)), posteriors(taught, frames)
    found = SoftTargets(TargetStore(taught.targets), frames, 9.0, 0.0, "logits").loss(logits, numbers)
    best, states = log_post.topk(4, 1)
    tail = log_post.scatter(1, states, -torch.inf).logsumexp(1, keepdim=True)
    expected = logit_loss(logits, frames.labels, states, torch.cat([best, tail], 1), 0.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    dense = SoftTargets(variant(taught, tmp_path, Targets(top_k=None)), frames, 9.0, 0.0, "logits")
    expected = logit_loss(logits, frames.labels, None, log_post, 0.0)
    assert dense.loss(logits, numbers).item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("match", [None, "logits"])
@pytest.mark.parametrize("noise", [Noise(alpha=0.0), Noise(sigma=0.0)])
def test_no_noise_leaves_every_bit(taught: Workspace, frames: Frames, match: str | None, noise: Noise) -> None:
    store, logits, numbers = TargetStore(taught.targets), student_logits(frames), torch.arange(len(frames))
    silent, plain = (SoftTargets(store, frames, 2.0, 0.3, match, each) for each in (noise, None))  # type: ignore[arg-type]
    assert torch.equal(silent.loss(logits, numbers), plain.loss(logits, numbers))
    assert silent.identity == plain.identity


def test_noise_falls_on_the_teachers_logits_before_the_temperature(
    taught: Workspace, frames: Frames, tmp_path: Path
) -> None:
    store, numbers = variant(taught, tmp_path, Targets(top_k=None)), torch.arange(len(frames))
    logits, noise = student_logits(frames), Noise(alpha=1.0, sigma=0.5, redraw="never")
    z = store.gather(numbers.numpy()).log_post
    noisy = LogitNoise(noise, NUM_PDFS, 3)(z, None, numbers.numpy())
    targets = SoftTargets(store, frames, 2.0, 0.0, noise=noise, seed=3)
    expected = distillation_loss(logits, frames.labels, None, (noisy / 2.0).softmax(1), 2.0, 0.0)
    assert targets.loss(logits, numbers).item() == pytest.approx(expected.item(), rel=1e-5)
    matching = SoftTargets(store, frames, 2.0, 0.0, "logits", noise, 3)
    expected = logit_loss(logits, frames.labels, None, noisy, 0.0)
    assert matching.loss(logits, numbers).item() == pytest.approx(expected.item(), rel=1e-5)


def test_noise_in_a_truncated_store_falls_on_the_states_and_the_bin(taught: Workspace, frames: Frames) -> None:
    store, numbers = TargetStore(taught.targets), torch.arange(len(frames))
    logits, noise = student_logits(frames), Noise(alpha=1.0, sigma=0.5, redraw="never")
    soft = store.gather(numbers.numpy())
    assert soft.log_tail is not None
    tempered = torch.cat([soft.log_post / 5.0, soft.log_tail[:, 2:3]], 1)
    noisy = LogitNoise(noise, NUM_PDFS, 3)(tempered, soft.states, numbers.numpy())
    targets = SoftTargets(store, frames, 5.0, 0.0, noise=noise, seed=3)
    expected = distillation_loss(logits, frames.labels, soft.states, noisy.softmax(1), 5.0, 0.0)
    assert targets.loss(logits, numbers).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_identity_covers_what_changes_the_loss_and_nothing_else(taught: Workspace, frames: Frames) -> None:
    store = TargetStore(taught.targets)
    plain = SoftTargets(store, frames, 2.0, 0.5, seed=5).identity
    # As in releases that had no other options, or finished students would be trained again.
    assert plain == joint_hash([file_hash(store.path / "index.json"), "2.0", "0.5"])
    others = [
        SoftTargets(store, frames, 2.0, 0.5, "logits").identity,
        SoftTargets(store, frames, 2.0, 0.5, noise=Noise()).identity,
        SoftTargets(store, frames, 2.0, 0.5, noise=Noise(sigma=0.2)).identity,
        SoftTargets(store, frames, 2.0, 0.5, noise=Noise(redraw="never")).identity,
        SoftTargets(store, frames, 2.0, 0.5, noise=Noise(), seed=1).identity,
    ]
    assert len({plain, *others}) == 6


def test_redrawn_noise_survives_an_interruption_to_the_bit(taught: Workspace, tmp_path: Path) -> None:
    inputs = load_inputs(taught, NETWORK)
    store, run = TargetStore(taught.targets), Run(NETWORK, TRAINING, (0, "student"), inputs.num_pdfs, inputs.data)

    def once(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
        if title.endswith("epoch 2"):
            raise KeyboardInterrupt
        return batches

    def noisy() -> SoftTargets:
        return SoftTargets(store, inputs.train, 2.0, 0.2, noise=Noise(alpha=0.5))

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "resumed", run, inputs.train, inputs.dev, noisy(), once)
    for name in ("resumed", "straight"):
        train(tmp_path / name, run, inputs.train, inputs.dev, noisy(), lambda batches, _: batches)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("resumed", "straight"))
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_teachers_with_dropout_say_so_and_waver_about_their_opinion(
    taught: Workspace, frames: Frames, tmp_path: Path
) -> None:
    some, much, again = (
        variant(taught, tmp_path / name, Targets(top_k=None, dropout=rate))
        for name, rate in (("some", 0.1), ("much", 0.5), ("again", 0.5))
    )
    assert (some.meta["dropout"], much.meta["dropout"]) == (0.1, 0.5)
    rows, log_post = np.arange(len(some)), posteriors(taught, frames)
    shifts = [(store.gather(rows).log_post - log_post).square().mean() for store in (some, much)]
    assert 0.01 < shifts[0] < shifts[1]
    assert torch.equal(much.gather(rows).log_post, again.gather(rows).log_post)
    # One mask a frame: the same window, seen in other frames, gets other masks.
    assert torch.equal(posteriors(taught, frames), log_post)


def test_dropout_of_rate_zero_is_none(taught: Workspace, tmp_path: Path) -> None:
    store = variant(taught, tmp_path, Targets(top_k=4, dropout=0.0))
    assert file_hash(store.path / "log_post-000.npy") == file_hash(taught.targets / "log_post-000.npy")
    assert file_hash(store.path / "index.json") == file_hash(taught.targets / "index.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "logits", "hard_weight": 0.0},
        {"loss": "logits", "noise": Noise(alpha=0.5), "hard_weight": 0.1},
        {"noise": Noise(redraw="never")},
    ],
)
def test_students_learn_from_every_loss(taught: Workspace, tmp_path: Path, changes: dict[str, object]) -> None:
    work = toy_workspace(tmp_path)
    (work.root / "targets").symlink_to(taught.targets)
    (work.root / "models").mkdir()
    for name in NAMES:
        (work.root / "models" / name).symlink_to(taught.model(name))
    recipe = RECIPE.model_copy(update={"student": RECIPE.student.model_copy(update=changes)})
    student.run(Job(recipe, work))
    history = read_history(work.model("student"))
    labels = load_frames(work, NETWORK, "dev").labels
    chance = float(torch.bincount(labels).max()) / len(labels)
    assert history[-1]["dev_frame_accuracy"] > chance + 0.2


def test_only_frames_of_the_classes_are_trained_on(taught: Workspace, tmp_path: Path) -> None:
    work, classes = toy_workspace(tmp_path), (2, 5, 7)
    (work.root / "targets").symlink_to(taught.targets)
    (work.root / "models").mkdir()
    for name in NAMES:
        (work.root / "models" / name).symlink_to(taught.model(name))
    changes = {"transfer_classes": classes, "hard_weight": 1.0}
    recipe = RECIPE.model_copy(update={"student": RECIPE.student.model_copy(update=changes)})
    student.run(Job(recipe, work))
    network = load_ensemble(work, ["student"])
    dev = load_frames(work, NETWORK, "dev")
    with torch.inference_mode():
        windows = network.windows(dev.standardised(network.models[0]), torch.arange(len(dev)))
        answers = network.log_posteriors(windows).argmax(1)
    # A network that has seen no other label gives hardly ever another; a fourth of the frames have one of these.
    assert torch.isin(answers, torch.tensor(classes)).double().mean() > 0.98
    nothing = recipe.student.model_copy(update={"transfer_classes": (99,)})
    with pytest.raises(UserError, match=r"student\.transfer_classes: no training frame has a label of \[99\]"):
        student.run(Job(recipe.model_copy(update={"student": nothing}), work))
