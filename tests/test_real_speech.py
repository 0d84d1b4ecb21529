"""Stages 0 to 3 on a few minutes of real recordings."""

import os
from pathlib import Path

import numpy as np
import pytest

from asr_kd.corpora.manifest import read_cuts, sped_up, words_of
from asr_kd.features.store import FrameStore
from asr_kd.files import read_json
from asr_kd.pipeline import run_stages
from asr_kd.recipe_file import load_recipe
from asr_kd.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PARTS = {"train-mini": 60, "dev-mini": 6, "test-mini": 6}
RECIPE = """
name: real
corpus: {{kind: librispeech, dir: {folder}, train: [train-mini], dev: [dev-mini], test: [test-mini]}}
features: {{speed: [1.1], fbank: {{high_freq: 5400}}, mfcc: {{high_freq: 5400}}}}
lang: {{ngram: {{order: 2, cutoffs: [0]}}}}
hmm:
  mono: {{iterations: 14, realign: [1, 2, 3, 4, 5, 6, 8, 10, 12], gaussians: 400}}
  tri: {{iterations: 6, realign: [3], leaves: 200, gaussians: 800}}
  lda: {{iterations: 6, realign: [3], leaves: 200, gaussians: 800}}
  sat: {{iterations: 6, realign: [3], leaves: 200, gaussians: 800}}
  mllt_iterations: [2]
  fmllr_iterations: [2]
  realignment: {{members: 2, network: {{layers: 1, width: 64}}, train: {{epochs: 2}}}}
"""


def few_utterances(source: Path, folder: Path, count: int) -> None:
    """The shortest `count` utterances of a LibriSpeech part, as links in the same layout."""
    recordings = sorted(source.rglob("*.flac"), key=lambda path: (path.stat().st_size, path.name))[:count]
    for recording in recordings:
        chapter = folder / recording.parent.relative_to(source)
        chapter.mkdir(parents=True, exist_ok=True)
        (chapter / recording.name).symlink_to(recording)
        [transcript] = recording.parent.glob("*.trans.txt")
        line = next(line for line in transcript.read_text().splitlines() if line.startswith(recording.stem + " "))
        with (chapter / transcript.name).open("a") as file:
            file.write(line + "\n")


@pytest.fixture(scope="module")
def work(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("real")
    for part, count in PARTS.items():
        few_utterances(shared_data / "LibriSpeech" / part, folder / part, count)
    (folder / "real.yaml").write_text(RECIPE.format(folder=folder))
    run_stages(load_recipe(folder / "real.yaml"), folder / "exp", last=3, jobs=os.cpu_count() or 1)
    return Workspace(folder / "exp")


def test_every_utterance_is_aligned_word_by_word(work: Workspace) -> None:
    for split, count in zip(("train", "dev", "test"), PARTS.values(), strict=True):
        store = FrameStore(work.alignment(split))
        assert read_json(work.failed_alignments(split)) == []
        cuts = list(read_cuts(work.manifest(split)))
        cuts += list(sped_up(cuts, (1.1,))) if split == "train" else []
        assert len(store) == len(cuts) == count * (2 if split == "train" else 1)
        for cut in cuts:
            numbers = store[cut.id][:, 5]
            heard = numbers[np.insert(np.diff(numbers) != 0, 0, True)]
            assert heard[heard >= 0].tolist() == list(range(len(words_of(cut))))


def test_silence_takes_its_usual_share(work: Workspace) -> None:
    store = FrameStore(work.alignment("train"))
    silence = np.concatenate([store[utterance][:, 5] < 0 for utterance in store])
    assert 0.08 < silence.mean() < 0.4  # Kaldi's final share on the whole of this corpus is 0.19


def test_likelihood_rises_from_step_to_step_of_each_model(work: Workspace) -> None:
    for step in ("mono", "tri", "lda", "sat"):
        history = [row["log_likelihood_per_frame"] for row in read_json(work.gmm(step) / "log.json")]
        assert history[-1] > history[0] + 0.5


def test_a_copy_is_aligned_like_its_original(work: Workspace) -> None:
    store, seconds = FrameStore(work.alignment("train")), []
    for name in (name for name in store if not name.endswith("_sp1.1")):
        ends = [np.flatnonzero(store[key][:, 5] == 0)[-1] for key in (name, f"{name}_sp1.1")]
        seconds.append(abs(ends[0] - 1.1 * ends[1]) / 100)
    assert np.median(seconds) <= 0.03


def test_the_mean_of_the_members_realigns(work: Workspace) -> None:
    assert sorted(path.name for path in work.model("").iterdir()) == ["realignment-00", "realignment-01"]
