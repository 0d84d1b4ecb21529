"""Shares of the training frames, by whole utterances."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_experiment import NETWORK, UTTERANCES, toy_workspace

from asr_kd.nn.frames import Frames
from asr_kd.nn.inputs import load_frames, load_inputs
from asr_kd.nn.seeds import generator


@pytest.fixture
def frames(tmp_path: Path) -> Frames:
    return load_frames(toy_workspace(tmp_path), NETWORK, "train")


def test_a_share_is_whole_utterances_in_storage_order(frames: Frames) -> None:
    part = frames.share(0.3, (0, "fraction"))
    numbers = [frames.utterances.index(name) for name in part.utterances]
    assert numbers == sorted(numbers) and 0 < len(numbers) < len(frames.utterances)
    for place, number in enumerate(numbers):
        ours, theirs = (
            slice(*part.starts[place : place + 2].tolist()),
            slice(*frames.starts[number : number + 2].tolist()),
        )
        assert torch.equal(part.rows[ours], frames.rows[theirs])
        assert torch.equal(part.labels[ours], frames.labels[theirs])
    assert len(part) == int(part.starts[-1]) == len(part.rows) == len(part.labels)


def test_shares_are_nested_and_of_the_size_asked_for(frames: Frames) -> None:
    shares = [0.001, 0.1, 0.3, 0.7, 1.0]
    parts = [frames.share(share, (0, "fraction")) for share in shares]
    longest = int(frames.starts.diff().max())
    for share, part in zip(shares, parts, strict=True):
        assert share * len(frames) <= len(part) < share * len(frames) + longest
    for smaller, larger in itertools.pairwise(parts):
        assert set(smaller.utterances) < set(larger.utterances)
    assert parts[-1].utterances == frames.utterances
    assert frames.share(0.3, (1, "fraction")).utterances != parts[2].utterances


def test_inputs_of_a_share_are_other_data(tmp_path: Path) -> None:
    work = toy_workspace(tmp_path)
    whole, third, again, other = (
        load_inputs(work, NETWORK, fraction=fraction, seed=seed)
        for fraction, seed in ((None, 0), (0.3, 0), (0.3, 0), (0.3, 1))
    )
    assert len({whole.data, third.data, other.data}) == 3 and third.data == again.data
    assert third.train.utterances == again.train.utterances
    assert len(third.dev.utterances) == len(whole.dev.utterances) == UTTERANCES["dev"]


def test_copies_at_other_speeds_go_with_their_utterance(frames: Frames) -> None:
    half = len(frames.utterances) // 2
    names = [*frames.utterances[:half], *(f"{name}_sp0.9" for name in frames.utterances[:half])]
    part = replace(frames, utterances=names).share(0.4, (0, "fraction"))
    kept = set(part.utterances)
    assert 0 < len(kept) < len(names)
    assert kept == {name for name in names if name.removesuffix("_sp0.9") in kept}
    assert all(f"{name}_sp0.9" in kept for name in kept if not name.endswith("_sp0.9"))


def test_a_share_without_copies_is_the_order_of_the_seed(frames: Frames) -> None:
    order = torch.randperm(len(frames.utterances), generator=generator((0, "fraction"))).tolist()
    kept = set(frames.share(0.3, (0, "fraction")).utterances)
    assert kept == {frames.utterances[number] for number in order[: len(kept)]}
