"""The embedded corpus: speakers, prompts, true word times, and the same bits from any number of processes."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from asr_kd.corpora import embedded
from asr_kd.corpora.espeak import espeak
from asr_kd.corpora.manifest import read_cuts, samples_of, words_of
from asr_kd.errors import UserError
from asr_kd.recipe import Embedded
from asr_kd.workspace import SPLITS, Workspace

Prepare = Callable[..., Workspace]
SIZES = {
    "train_utterances": 6,
    "train_speakers": 3,
    "dev_utterances": 2,
    "dev_speakers": 2,
    "test_utterances": 2,
    "test_speakers": 1,
    "lm_sentences": 500,
}


def _digest(work: Workspace) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(work.corpus.rglob("*.flac"))]


def test_splits_share_no_variant() -> None:
    variants = [set(embedded.VARIANTS[split]) for split in SPLITS]
    assert sum(map(len, variants)) == len(set.union(*variants))
    speakers = embedded.draw_speakers("train", 60, seed=0)
    assert len({(speaker.variant, speaker.pitch, speaker.rate) for speaker in speakers}) == 60
    assert len({speaker.name for speaker in speakers}) == 60


def test_every_variant_is_a_voice_of_its_own() -> None:
    words = ["good", "morning"]
    said = [
        espeak().synthesise(words, f"en-us+{variant}", 50, 170).samples.tobytes()
        for variants in embedded.VARIANTS.values()
        for variant in variants
    ]
    assert len(set(said)) == len(said)


def test_prompts_are_distinct_and_the_lm_text_is_drawn_apart() -> None:
    sizes = Embedded()
    tasks = embedded.plan(sizes, seed=0)
    prompts = [prompt for task in tasks for prompt in task.prompts]
    assert len(prompts) == len(set(prompts)) == sizes.train_utterances + sizes.dev_utterances + sizes.test_utterances
    assert all(task.speaker not in task.babblers and len(task.babblers) == embedded.BABBLERS for task in tasks)
    text = embedded.lm_sentences(sizes, seed=0)
    assert len(text) == sizes.lm_sentences and not any("," in sentence for sentence in text)
    assert text[:50] != [prompt.replace(",", "") for prompt in prompts[:50]]


def test_more_speakers_than_utterances_is_refused() -> None:
    with pytest.raises(UserError, match=r"corpus.embedded.dev_utterances: 3 .* 8 speakers"):
        embedded.plan(Embedded(dev_utterances=3), seed=0)


def test_the_corpus_depends_on_the_seed_alone(run_prepare: Prepare) -> None:
    one = run_prepare({"embedded": SIZES}, "one", jobs=1)
    two = run_prepare({"embedded": SIZES}, "two", jobs=2)
    other = run_prepare({"embedded": SIZES}, "other", jobs=2, seed=1)
    assert len(_digest(one)) == 10
    assert _digest(one) == _digest(two)
    assert not set(_digest(one)) & set(_digest(other))
    assert one.lm_text.read_text() == two.lm_text.read_text() != other.lm_text.read_text()

    speakers: list[set[str]] = []
    for split in SPLITS:
        cuts = list(read_cuts(one.manifest(split), word_times=True))
        speakers.append({cut.supervisions[0].speaker for cut in cuts})
        for cut in cuts:
            words = cut.supervisions[0].alignment["word"]
            assert [word.symbol for word in words] == words_of(cut)
            assert all(left.end <= right.start + 1e-3 for left, right in pairwise(words))
            assert 0.1 < words[0].start < 0.5 and 0.1 < cut.duration - words[-1].end < 0.6
            assert 0.8 < cut.duration < 12 and cut.sampling_rate == 16000
    assert not any(one & other for one, other in combinations(speakers, 2))
    assert [len(group) for group in speakers] == [3, 2, 1]


def test_earlier_speech_in_the_process_leaves_no_trace(run_prepare: Prepare, tmp_path: Path) -> None:
    espeak().synthesise(["a", "long", "time", "ago"], "en-us+grandma", 30, 120)
    for _ in range(300):
        espeak().phonemes("trace")
    here = run_prepare({"embedded": SIZES}, "here", jobs=2)
    (tmp_path / "tiny.yaml").write_text(f"name: tiny\ncorpus: {{embedded: {SIZES}}}\n".replace("'", ""))
    command = f"run --recipe {tmp_path / 'tiny.yaml'} --stop-stage 0 --exp {tmp_path / 'fresh'} --jobs 1"
    subprocess.run([sys.executable, "-c", "from asr_kd.cli import app; app()", *command.split()], check=True)
    assert _digest(here) == _digest(Workspace(tmp_path / "fresh"))


def test_word_times_are_where_the_speech_is(run_prepare: Prepare) -> None:
    work = run_prepare({"embedded": SIZES | {"snr_db": (60, 60), "reverberation_s": (0.01, 0.01)}})
    for cut in read_cuts(work.manifest("train"), word_times=True):
        samples, words = samples_of(cut), cut.supervisions[0].alignment["word"]
        level = np.abs(samples[: len(samples) // 160 * 160]).reshape(-1, 160).max(axis=1)
        loud = np.flatnonzero(level > 0.01 * level.max()) * 160 / cut.sampling_rate
        assert words[0].start == pytest.approx(loud[0], abs=0.06)
        assert words[-1].end == pytest.approx(loud[-1], abs=0.06)
