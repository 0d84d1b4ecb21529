import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from asr_kd.corpora.manifest import samples_of, sped_up
from asr_kd.errors import UserError
from asr_kd.features import extract
from asr_kd.features.extract import KINDS
from asr_kd.features.filterbank import fbank, mfcc
from asr_kd.features.store import FrameStore
from asr_kd.pipeline import Job
from asr_kd.recipe import Corpus, Features, Filterbank, Mfcc, Normalisation, Recipe
from asr_kd.stages import features as stage
from asr_kd.workspace import SPLITS, Workspace

RATE = 16000
SPEAKERS = {"ann": 3, "bob": 1, "cid": 4}


def make_cut(folder: Path, utterance: str, speaker: str, waveform: np.ndarray) -> MonoCut:
    path = folder / f"{utterance}.wav"
    soundfile.write(path, waveform, RATE, subtype="FLOAT")
    cut = Recording.from_file(path).to_cut()
    cut.id = utterance
    cut.supervisions = [SupervisionSegment(utterance, utterance, 0.0, cut.duration, text="a", speaker=speaker)]
    return cut


@pytest.fixture
def waveforms() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        f"{speaker}-{number}": (0.1 * rng.standard_normal(rng.integers(3000, 20000))).astype(np.float32)
        for speaker, count in SPEAKERS.items()
        for number in range(count)
    }


@pytest.fixture
def cuts(tmp_path: Path, waveforms: dict[str, np.ndarray]) -> list[MonoCut]:
    return [make_cut(tmp_path, name, name[:3], waveform) for name, waveform in reversed(waveforms.items())]


def run_stage(root: Path, cuts: list[MonoCut], recipe: Features, jobs: int = 1, bad: float = 0.01) -> Workspace:
    work = Workspace(root)
    work.manifest("train").parent.mkdir(parents=True)
    for split in SPLITS:
        CutSet.from_cuts(cuts).to_file(work.manifest(split))
    stage.run(Job(Recipe(features=recipe, corpus=Corpus(max_bad_fraction=bad)), work, jobs=jobs))
    return work


def standardised(arrays: list[np.ndarray]) -> np.ndarray:
    rows = np.concatenate(arrays)
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def test_a_group_is_whole_speakers_up_to_its_bound(cuts: list[MonoCut], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "SHARD_SECONDS", 3.0)
    groups = extract.group_speakers(cuts)
    assert [utterance for group in groups for utterance in group] == sorted(cut.id for cut in cuts)
    speakers = [{utterance[:3] for utterance in group} for group in groups]
    assert sum(map(len, speakers)) == len(SPEAKERS)
    assert len(groups) > 1
    for group, names in zip(groups, speakers, strict=True):
        assert len(names) == 1 or sum(cut.duration for cut in cuts if cut.id in group) <= 3.0


def test_nothing_is_written_where_the_disk_has_no_room(
    tmp_path: Path, cuts: list[MonoCut], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 3 * sum(cut.duration for cut in cuts)
    needed = round(100 * seconds * (40 + 13) * 2)
    assert abs(stage.estimate_bytes(Features(), seconds) - needed) <= 1
    monkeypatch.setattr("asr_kd.files._free_bytes", lambda folder: needed - 2)
    with pytest.raises(UserError, match=r"exp/features: features need about .* are free; free some space"):
        run_stage(tmp_path / "exp", cuts, Features())
    assert not (tmp_path / "exp" / "features").exists()


def test_stores_hold_features_normalised_by_speaker(
    tmp_path: Path, cuts: list[MonoCut], waveforms: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "BATCH_SECONDS", 1.5)
    work = run_stage(tmp_path / "exp", cuts, Features())
    for speaker in SPEAKERS:
        names = [name for name in waveforms if name.startswith(speaker)]
        raw = fbank([waveforms[name] for name in names], RATE, Filterbank())
        store = FrameStore(work.features("fbank", "dev"))
        stored = np.concatenate([store[name] for name in names])
        assert stored.dtype == np.float16
        np.testing.assert_allclose(stored, standardised(raw), atol=4e-3)
        stats = json.loads((store.path / "stats.json").read_text())[speaker]
        np.testing.assert_allclose(stats["mean"], np.concatenate(raw).mean(axis=0), atol=1e-4)
        cepstra = mfcc([waveforms[name] for name in names], RATE, Mfcc())
        ceps_store = FrameStore(work.features("mfcc", "dev"))
        centred = np.concatenate(cepstra) - np.concatenate(cepstra).mean(axis=0)
        np.testing.assert_allclose(np.concatenate([ceps_store[name] for name in names]), centred, atol=0.05)
        assert ceps_store.meta["dim"] == ceps_store.dim == 13


def test_normalisation_by_utterance(tmp_path: Path, cuts: list[MonoCut], waveforms: dict[str, np.ndarray]) -> None:
    recipe = Features(fbank=Filterbank(normalise=Normalisation(by="utterance")))
    store = FrameStore(run_stage(tmp_path / "exp", cuts, recipe).features("fbank", "train"))
    for name, waveform in waveforms.items():
        np.testing.assert_allclose(store[name], standardised(fbank([waveform], RATE, Filterbank())), atol=4e-3)


def test_files_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, cuts: list[MonoCut], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "SHARD_SECONDS", 2.0)
    one, two = (run_stage(tmp_path / str(jobs), cuts, Features(), jobs).root / "features" for jobs in (1, 2))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) > 12
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes()


def test_an_interrupted_stage_goes_on_after_its_last_shard(
    tmp_path: Path, cuts: list[MonoCut], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "SHARD_SECONDS", 2.0)
    straight = run_stage(tmp_path / "straight", cuts, Features()).root / "features"
    original, made, stops = extract.extract_group, list[int](), [5]

    def interrupted(number: int, *arguments: Any) -> extract.Group:
        made.append(number)
        if [len(made)] == stops:
            raise KeyboardInterrupt
        return original(number, *arguments)

    monkeypatch.setattr(extract, "extract_group", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "resumed", cuts, Features())
    stops.clear()
    resumed, groups = Workspace(tmp_path / "resumed"), len(extract.group_speakers(cuts))
    damaged = resumed.features("mfcc", "train") / "shard-001.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    stage.run(Job(Recipe(features=Features()), resumed))
    assert sorted(made) == sorted([*range(groups)] * len(SPLITS) + [made[4], 1]), "each once, but for the two lost"
    files = sorted(path.relative_to(straight) for path in straight.rglob("*") if path.is_file())
    found = resumed.root / "features"
    assert files == sorted(path.relative_to(found) for path in found.rglob("*") if path.is_file())
    assert all((straight / file).read_bytes() == (found / file).read_bytes() for file in files)
    made.clear()
    stage.run(Job(Recipe(features=Features(fbank=Filterbank(num_bins=30))), resumed))
    assert len(made) == groups * len(SPLITS), "another recipe takes over nothing"


def test_a_change_in_what_is_noted_of_a_finished_group_is_noticed(tmp_path: Path) -> None:
    path, moments = tmp_path / "group-000.json", {"frames": 3, "mean": [0.25], "std": [1.5]}
    group = extract.Group({"fbank": ("shard-000.npy", {"u": (0, 0, 3)})}, {"fbank": {"ann": moments}}, [("v", "gone")])
    (tmp_path / "shard-000.npy").write_bytes(b"frames")
    group.save(path, {"fbank": tmp_path}, "this one")
    whole = path.read_bytes()
    found = extract.Group.load(path, "this one")
    assert found is not None and found.moments == group.moments
    assert extract.Group.load(path, "another") is None
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 1
        path.write_bytes(content)
        assert extract.Group.load(path, "this one") is None, whole[:position]
    path.write_bytes(b"[]")
    assert extract.Group.load(path, "this one") is None


def test_too_little_space_is_said_before_the_work(
    tmp_path: Path, cuts: list[MonoCut], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = sum(cut.duration for cut in cuts)
    needed = 3 * seconds * 100 * (40 + 13) * 2
    monkeypatch.setattr("asr_kd.files._free_bytes", lambda folder: int(needed * 0.9))
    with pytest.raises(
        UserError, match=r"features: features need about \d+\.\d kB, \d+\.\d kB are free; free some space"
    ):
        run_stage(tmp_path / "exp", cuts, Features())
    monkeypatch.setattr("asr_kd.files._free_bytes", lambda folder: int(needed * 1.1))
    run_stage(tmp_path / "exp2", cuts, Features())


def test_copies_at_other_speeds_join_the_training_speech_alone(tmp_path: Path, cuts: list[MonoCut]) -> None:
    plain, sped = (run_stage(tmp_path / str(speed), cuts, Features(speed=speed)) for speed in (None, (0.8,)))
    copies = {copy.id: copy for copy in sped_up(cuts, (0.8,))}
    for kind in KINDS:
        for split in SPLITS:
            ours, theirs = (FrameStore(work.features(kind, split)) for work in (sped, plain))
            assert set(ours) - set(theirs) == (set(copies) if split == "train" else set())
            assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    store = FrameStore(sped.features("fbank", "train"))
    for speaker in SPEAKERS:
        names = [name for name, copy in copies.items() if copy.supervisions[0].speaker == f"{speaker}_sp0.8"]
        assert len(names) == SPEAKERS[speaker]
        raw = fbank([samples_of(copies[name]) for name in names], RATE, Filterbank())
        np.testing.assert_allclose(np.concatenate([store[name] for name in names]), standardised(raw), atol=4e-3)


def test_bad_utterances_are_listed_and_the_others_kept(tmp_path: Path, cuts: list[MonoCut]) -> None:
    missing = make_cut(tmp_path, "gone", "ann", np.zeros(8000, np.float32))
    (tmp_path / "gone.wav").unlink()
    short = make_cut(tmp_path, "short", "dot", np.zeros(399, np.float32))
    infinite = make_cut(tmp_path, "infinite", "ann", np.full(8000, np.inf, np.float32))
    with pytest.raises(
        UserError, match=r"max_bad_fraction: 9 of 33 utterances cannot be read, more than 20\.0%, first gone: audio unr"
    ):
        run_stage(tmp_path / "refused", [*cuts, missing, short, infinite], Features(), bad=0.2)
    work = run_stage(tmp_path / "exp", [*cuts, missing, short, infinite], Features(), bad=0.3)
    excluded = json.loads((work.root / "features" / "excluded.json").read_text())
    reasons = {row["id"]: row["reason"] for row in excluded if row["split"] == "dev"}
    assert set(reasons) == {"gone", "short", "infinite"}
    assert "399 samples" in reasons["short"]
    assert set(FrameStore(work.features("mfcc", "dev"))) == {cut.id for cut in cuts}


def test_a_split_without_usable_audio_is_an_error(tmp_path: Path) -> None:
    cut = make_cut(tmp_path, "short", "dot", np.zeros(100, np.float32))
    with pytest.raises(UserError, match="no utterance has usable audio"):
        run_stage(tmp_path / "exp", [cut], Features())
