from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor
from toy_experiment import DIM, NETWORK, NUM_PDFS

from asr_kd.errors import UserError
from asr_kd.features.store import FrameStore
from asr_kd.nn.accuracy import by_utterance, ensemble_accuracy, frame_accuracy
from asr_kd.nn.inputs import Inputs, load_frames
from asr_kd.nn.model import AcousticModel, load_model
from asr_kd.nn.posteriors import load_ensemble, load_scorer, mean_log_posteriors
from asr_kd.nn.seeds import generator
from asr_kd.workspace import Workspace

NAMES = ["member-00", "member-01"]


def silent(batches: Sequence[Tensor], title: str) -> Iterable[Tensor]:
    return batches


def dense_posteriors(work: Workspace, name: str, features: np.ndarray) -> np.ndarray:
    """(T, num_pdfs) by numpy alone: standardise, splice by hand, layer after layer."""
    tensors = {key: tensor.double().numpy() for key, tensor in load_model(work.model(name)).state_dict().items()}
    x = ((features.astype(np.float32) - tensors["mean"]) * tensors["scale"]).astype(np.float16).astype(float)
    padded = np.pad(x, ((NETWORK.left, NETWORK.right), (0, 0)), mode="edge")
    x = np.hstack([padded[o : o + len(features)] for o in range(3)])
    for layer in range(3):
        x = x @ tensors[f"weights.{layer}"].T + tensors[f"biases.{layer}"]
        x = np.maximum(x, 0) if layer < 2 else x
    return softmax(x, 1)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_means_against_their_definition(mean: str) -> None:
    logits = [torch.randn(50, 9, generator=generator((n,))) * 4 for n in range(3)]
    posteriors = np.stack([softmax(member.double().numpy(), 1) for member in logits])
    if mean == "arithmetic":
        expected = np.log(posteriors.mean(0))
    else:
        expected = log_softmax(np.log(posteriors).mean(0), 1)
    assert np.allclose(mean_log_posteriors(logits, mean), expected, atol=1e-5)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_impossible_states_stay_finite(mean: str) -> None:
    logits = [torch.tensor([[0.0, 500.0, -500.0]]), torch.tensor([[0.0, 400.0, -900.0]])]
    assert mean_log_posteriors(logits, mean).isfinite().all()


def test_scorer_against_numpy(trained: Workspace) -> None:
    features = FrameStore(trained.features("fbank", "test"))["test-02"]
    members = [dense_posteriors(trained, name, features) for name in NAMES]
    single, ensemble = load_scorer(trained, NAMES[:1]), load_scorer(trained, NAMES)
    assert np.allclose(np.exp(single.log_posteriors("test", "test-02")), members[0], atol=2e-3)
    assert np.allclose(np.exp(ensemble.log_posteriors("test", "test-02")), np.mean(members, 0), atol=2e-3)
    assert ensemble.log_posteriors("test", "test-02").dtype == np.float32
    assert ensemble.parameters == 2 * single.parameters
    assert np.exp(single.log_prior).sum() == pytest.approx(1, abs=1e-5)


def test_accuracies_are_the_shares_of_arg_max(trained: Workspace, inputs: Inputs) -> None:
    splits = {"dev": inputs.dev, "test": load_frames(trained, NETWORK, "test")}
    accuracy, correct = ensemble_accuracy(load_ensemble(trained, NAMES), splits, silent)
    systems = {"member": load_scorer(trained, NAMES[1:]), "ensemble": load_scorer(trained, NAMES)}
    shares = {}
    for name, scorer in systems.items():
        best = [scorer.log_posteriors("test", utterance).argmax(1) for utterance in splits["test"].utterances]
        shares[name] = (np.concatenate(best) == splits["test"].labels.numpy()).mean()
    assert accuracy["ensemble"]["test"] == pytest.approx(shares["ensemble"], abs=2e-3)
    assert accuracy["members"][1]["test"] == pytest.approx(shares["member"], abs=2e-3)
    dev = [member["dev"] for member in accuracy["members"]]
    assert accuracy["members_mean"]["dev"] == pytest.approx(sum(dev) / 2)
    found = correct["dev"].sum(1) / len(inputs.dev)
    assert found.tolist() == pytest.approx([*dev, accuracy["ensemble"]["dev"]])


def test_correct_frames_are_counted_by_utterance(trained: Workspace) -> None:
    """Each utterance alone against the pass over all of them, whose batches end within utterances."""
    frames, ensemble = load_frames(trained, NETWORK, "test"), load_ensemble(trained, NAMES)
    figures, correct = frame_accuracy(ensemble, frames, "test", silent, batch=37)
    together = ensemble_accuracy(ensemble, {"test": frames}, silent, batch=37)[1]["test"][-1]
    counts = by_utterance(frames, {"ensemble": correct})
    assert counts["utterances"] == frames.utterances and sum(counts["frames"]) == len(frames)
    assert sum(counts["correct"]["ensemble"]) == round(figures["frame_accuracy"] * len(frames))
    scorer = load_scorer(trained, NAMES)
    for number, utterance in enumerate(frames.utterances):
        best = scorer.log_posteriors("test", utterance).argmax(1)
        labels = frames.labels[frames.starts[number] : frames.starts[number + 1]].numpy()
        assert counts["frames"][number] == len(labels)
        # A tie may fall the other way in products of another size.
        assert counts["correct"]["ensemble"][number] == pytest.approx((best == labels).sum(), abs=1)
        assert int(together[number]) == pytest.approx((best == labels).sum(), abs=1)


def test_networks_of_different_alignments_are_no_ensemble(trained: Workspace) -> None:
    other = AcousticModel(NETWORK, DIM, NUM_PDFS + 3)
    other.initialise(generator((9,)))
    other.save(trained.model("other"), {})
    with pytest.raises(UserError, match=r"other: tied states 15 differs from 12 of member-00"):
        load_ensemble(trained, ["member-00", "other"])
