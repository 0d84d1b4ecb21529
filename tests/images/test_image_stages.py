"""Image recipes through all stages, in miniature, and what training does to images."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from published_files import WRITERS, digits
from safetensors.torch import load_file
from torch import Tensor

from asr_kd.errors import UserError
from asr_kd.files import read_json
from asr_kd.images.offset import with_offset
from asr_kd.nn.frames import Frames
from asr_kd.nn.inputs import Inputs, load_frames, load_inputs
from asr_kd.nn.metrics import read_history
from asr_kd.nn.model import load_model
from asr_kd.nn.posteriors import load_ensemble
from asr_kd.nn.training import HardTargets, Run, train
from asr_kd.pipeline import STAGE_NAMES, run_stages
from asr_kd.recipe import Corpus, Network, Noise, Recipe, Student, Targets, Teachers, Training
from asr_kd.score.images import collect_image_results, log_posteriors, system_errors
from asr_kd.workspace import Workspace

SMALL = Network(input="pixels", left=0, right=0, layers=1, width=32, dropout=0.1, input_dropout=0.1)
LENET = Network(input="pixels", left=0, right=0, kind="lenet")
NIN = Network(input="pixels", left=0, right=0, kind="nin", dropout=0.2)
TRAINING = Training(epochs=4, batch_frames=50, learning_rate=5e-3, precision="float32", keep="last")


def image_recipe(kind: str, folder: Path, teacher: Network, student: Network, epochs: int = 4) -> Recipe:
    training = TRAINING.model_copy(update={"epochs": epochs, "learning_rate": 5e-3 if kind == "mnist" else 2e-3})
    return Recipe(
        name=f"tiny-{kind}",
        corpus=Corpus(kind=kind, dir=str(folder)),  # type: ignore[arg-type]
        teachers=Teachers(members=1, network=teacher, train=training.model_copy(update={"max_norm": 3.0, "jitter": 1})),
        targets=Targets(top_k=None),
        student=Student(network=student, train=training, temperature=4.0, hard_weight=0.0),
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """MNIST in miniature after all stages."""
    root = tmp_path_factory.mktemp("mnist")
    WRITERS["mnist"](root / "files", 400, 100)
    run_stages(image_recipe("mnist", root / "files", SMALL, SMALL), root / "exp")
    return Workspace(root / "exp")


def test_counts_the_errors_of_teacher_and_student(work: Workspace) -> None:
    results, labels = read_json(work.results), digits(100, 1, 28, 1)[1]
    assert results["images"] == {"train": 400, "dev": 400, "test": 100}
    assert results["test_images_by_class"] == [10] * 10
    for system, name in (("teacher", "member-00"), ("student", "student")):
        model, figures = load_model(work.model(name)), results["systems"][system]
        with torch.inference_mode():
            logits = model(torch.from_numpy(digits(100, 1, 28, 1)[0].reshape(100, 1, 784) / 255).half().float())
        wrong = logits.argmax(1).numpy() != labels
        assert figures["errors"]["test"] == wrong.sum() < 50
        assert figures["test_errors_by_class"] == np.bincount(labels[wrong], minlength=10).tolist()
        assert figures["frame_accuracy"]["test"] == pytest.approx(1 - wrong.mean())
        assert figures["parameters"] == 784 * 32 + 32 + 320 + 10
    report = work.report.read_text()
    assert f"| student | 0.025 M | {results['systems']['student']['errors']['dev']} |" in report
    assert (work.plots / "training.png").exists()


def test_every_stage_is_recorded_and_the_files_of_the_corpus_too(work: Workspace) -> None:
    assert [name for name in STAGE_NAMES if work.record(name).exists()] == list(STAGE_NAMES)
    about = read_json(work.images)
    assert about["shape"] == [1, 28, 28]
    assert sorted(Path(path).name for path in about["files"])[0] == "t10k-images-idx3-ubyte"
    assert about["by_class"]["train"] == [40] * 10


def test_an_image_is_an_utterance_of_one_frame(work: Workspace) -> None:
    frames, (pixels, labels) = load_frames(work, SMALL, "train"), digits(400, 1, 28, 0)
    assert frames.utterances[:2] == ["train-000000", "train-000001"] and len(frames) == 400
    assert np.allclose(frames.rows.numpy(), pixels.reshape(400, -1) / 255, atol=1e-3)
    assert np.array_equal(frames.labels.numpy(), labels)


def test_an_offset_is_chosen_on_the_training_images(work: Workspace) -> None:
    student = load_ensemble(work, ["student"])
    images = {split: load_frames(work, SMALL, split) for split in ("train", "dev", "test")}
    left_out = [0, 1, 2]
    with torch.no_grad():  # a student that never saw these classes
        student.models[0].biases[-1][left_out] -= 6.0
    system = system_errors(student, images, left_out)
    offset = system["offset"]
    scores = log_posteriors(student, images["test"])
    expected = with_offset(scores, left_out, offset["value"]).argmax(1) != images["test"].labels.numpy()
    assert offset["errors"]["test"] == expected.sum()
    assert offset["errors"]["train"] < system["errors"]["train"]
    assert offset["value"] == pytest.approx(6, abs=4)
    assert sum(system["test_errors_by_class"][label] for label in left_out) > 20
    test_alone = {**images, "test": images["dev"]}
    assert system_errors(student, test_alone, left_out)["offset"]["value"] == offset["value"]


def test_left_out_classes_are_those_that_the_transfer_set_lacks(work: Workspace, tmp_path: Path) -> None:
    recipe = image_recipe("mnist", tmp_path, SMALL, SMALL)
    seen = recipe.student.model_copy(update={"transfer_classes": (7, 8)})
    results = collect_image_results(recipe.model_copy(update={"student": seen}), work, {})
    assert results["systems"]["student"]["offset"]["classes"] == [0, 1, 2, 3, 4, 5, 6, 9]
    assert "offset" not in results["systems"]["teacher"]


def test_a_student_of_some_classes_is_scored_with_a_bias_moved_and_without(work: Workspace, tmp_path: Path) -> None:
    shutil.copytree(work.root, tmp_path / "exp")
    recipe = image_recipe("mnist", work.root.parent / "files", SMALL, SMALL)
    seen = {"transfer_classes": (7, 8), "noise": Noise(alpha=0.5, sigma=0.1), "loss": "logits"}
    run_stages(recipe.model_copy(update={"student": recipe.student.model_copy(update=seen)}), tmp_path / "exp")
    before, after = (read_json(root / "results.json") for root in (work.root, tmp_path / "exp"))
    assert after["systems"]["teacher"] == before["systems"]["teacher"]
    student = after["systems"]["student"]
    assert student["offset"]["errors"]["train"] <= student["errors"]["train"]
    assert "bias of 0, 1, 2, 3, 4, 5, 6, 9 by" in (tmp_path / "exp" / "report.md").read_text()


@pytest.mark.parametrize("kind", ["svhn", "cifar10"])
def test_a_network_in_network_teaches_lenet(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / "files", 40, 20)
    recipe = image_recipe(kind, tmp_path / "files", NIN, LENET, epochs=1)
    recipe = recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update={"held_out": 10})})
    run_stages(recipe, tmp_path / "exp")
    results = read_json(tmp_path / "exp" / "results.json")
    assert results["images"] == {"train": 30, "dev": 10, "test": 20} and results["dev_held_out"]
    assert results["systems"]["teacher"]["parameters"] == 966_986
    assert results["systems"]["student"]["parameters"] == 657_080
    history = read_history(Workspace(tmp_path / "exp").model("student"))
    assert np.isfinite([row["train_loss"] for row in history]).all()


def test_a_network_that_sees_more_than_an_image_is_refused(tmp_path: Path) -> None:
    WRITERS["mnist"](tmp_path, 20, 10)
    recipe = image_recipe("mnist", tmp_path, SMALL, SMALL.model_copy(update={"left": 2}))
    with pytest.raises(UserError, match=r"student\.network: of images, a network sees one; set input: pixels, left: 0"):
        run_stages(recipe, tmp_path / "exp", 0, 0)


class Interrupted(Exception):
    pass


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def interrupt(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    if title.endswith("epoch 3"):
        yield batches[0]
        raise Interrupted
    yield from batches


def trained(path: Path, inputs: Inputs, training: Training, progress: object = silent) -> dict[str, Tensor]:
    run = Run(SMALL, training, (0, "member", 0), inputs.num_pdfs, inputs.data)
    targets = HardTargets(inputs.train.labels)
    train(path, run, inputs.train, inputs.dev, targets, progress)  # type: ignore[arg-type]
    return load_file(path / "model.safetensors")


@pytest.fixture(scope="module")
def inputs(work: Workspace) -> Inputs:
    return load_inputs(work, SMALL)


def test_an_interrupted_run_ends_in_the_same_bits(inputs: Inputs, tmp_path: Path) -> None:
    training = TRAINING.model_copy(update={"jitter": 2, "max_norm": 1.0})
    with pytest.raises(Interrupted):
        trained(tmp_path / "resumed", inputs, training, interrupt)
    resumed, straight = (trained(tmp_path / name, inputs, training) for name in ("resumed", "straight"))
    assert all(torch.equal(tensor, straight[name]) for name, tensor in resumed.items())
    assert float(straight["weights.0"].norm(dim=1).max()) <= 1 + 1e-5


def test_each_option_changes_the_network(inputs: Inputs, tmp_path: Path) -> None:
    options = ({}, {"jitter": 2}, {"max_norm": 0.5})
    firsts = [
        trained(tmp_path / str(number), inputs, TRAINING.model_copy(update={"epochs": 1, **option}))["weights.0"]
        for number, option in enumerate(options)
    ]
    assert not torch.equal(firsts[0], firsts[1]) and not torch.equal(firsts[0], firsts[2])


@pytest.mark.parametrize(("keep", "epoch"), [("last", 4), (None, 1)])
def test_keeps_the_last_epoch_or_the_best(inputs: Inputs, tmp_path: Path, keep: str | None, epoch: int) -> None:
    # Dev labels that no network gets right: the first epoch is as good as any, so it is the best.
    hopeless = Frames(inputs.dev.rows, torch.full_like(inputs.dev.labels, 10), inputs.dev.utterances, inputs.dev.starts)
    impossible = Inputs(inputs.train, hopeless, 11, inputs.data)
    trained(tmp_path, impossible, TRAINING.model_copy(update={"keep": keep}))
    assert read_json(tmp_path / "model.json")["epoch"] == epoch


def test_pixels_keep_their_scale(inputs: Inputs, tmp_path: Path) -> None:
    weights = trained(tmp_path, inputs, TRAINING.model_copy(update={"epochs": 1}))
    assert not weights["mean"].any() and (weights["scale"] == 1).all()
