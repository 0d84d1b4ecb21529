"""The three splits of a corpus, checked utterance by utterance, and the text for the language model."""

import gzip
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from lhotse import MonoCut

from asr_kd.ahead import mapped_ahead
from asr_kd.checksums import Recorded, record_files
from asr_kd.corpora.json_manifests import read_lhotse, read_manifest
from asr_kd.corpora.kaldi import read_kaldi
from asr_kd.corpora.librispeech import corpus_folder, missing_parts, read_librispeech
from asr_kd.corpora.utterance import Fault, Utterance, normalise_text, to_cut, without_notes
from asr_kd.corpora.validation import Report
from asr_kd.corpora.yesno import read_yesno
from asr_kd.errors import UserError
from asr_kd.files import atomic_path
from asr_kd.images.download import missing_files
from asr_kd.recipe import Corpus

AHEAD = 100  # recordings of a thread that may be looked at before their turn
log = logging.getLogger("asr_kd")

READERS: dict[str, Callable[[Corpus], dict[str, list[Utterance]]]] = {
    "librispeech": read_librispeech,
    "mini_librispeech": read_librispeech,
    "yesno": read_yesno,
    "kaldi": read_kaldi,
    "lhotse": read_lhotse,
    "manifest": read_manifest,
}


def to_download(corpus: Corpus) -> list[Path]:
    """The folders, or files, that reading the corpus would fetch; none without corpus.download."""
    if not corpus.download:
        return []
    if corpus.kind in ("librispeech", "mini_librispeech"):
        folder = corpus_folder(corpus)
        return [folder / part for part in missing_parts(folder, (*corpus.train, *corpus.dev, *corpus.test))]
    if corpus.kind == "yesno":
        return [folder for folder in (corpus_folder(corpus),) if not folder.is_dir()]
    return missing_files(corpus_folder(corpus)) if corpus.kind == "mnist" else []


def check_utterances(
    splits: dict[str, list[Utterance]],
    corpus: Corpus,
    jobs: int,
    progress: Callable[..., Iterator[MonoCut | Fault]],
) -> tuple[dict[str, list[MonoCut]], Report]:
    """Cuts by split, and what is wrong with the utterances left out; `Report.refuse` tells whether that is too much."""
    cuts: dict[str, list[MonoCut]] = {split: [] for split in splits}
    report, seen = Report(), set[str]()
    for split, utterances in splits.items():
        report.utterances[split] = len(without_notes(utterances))
        pool = ThreadPoolExecutor(jobs)
        try:
            checked = mapped_ahead(pool, partial(to_cut, sample_rate=corpus.sample_rate), utterances, AHEAD * jobs)
            for utterance, cut in zip(utterances, progress(checked, f"audio of {split}", len(utterances)), strict=True):
                if utterance.id in seen:
                    cut = Fault("utterance id occurs twice", "utterance id occurs twice")
                seen.add(utterance.id)
                if isinstance(cut, MonoCut):
                    cuts[split].append(cut)
                else:
                    report.add(split, utterance.id, cut)
                    log.warning(
                        "%s: %s %s: %s", split, utterance.id, "noted" if cut.is_note else "left out", cut.reason
                    )
        finally:
            pool.shutdown(cancel_futures=True)
    return cuts, report


def describe_audio(
    root: Path, splits: dict[str, list[Utterance]], cuts: dict[str, list[MonoCut]], jobs: int
) -> dict[str, Recorded]:
    """Sizes, times of change and checksums of the recordings in use, and of those left out (no checksum: missing).

    Those below `root`, the experiment directory, are stage 0's own files.
    """
    used = {cut.recording.sources[0].source for members in cuts.values() for cut in members if cut.recording.sources}
    named = {utterance.audio for members in splits.values() for utterance in members if utterance.audio}
    files = {str(Path(audio).absolute()) for audio in named if not audio.endswith("|")}
    outside = {path for path in files if not Path(path).is_relative_to(root.absolute())}
    present = {path for path in outside - used if Path(path).is_file()}
    missing: Recorded = {path: [0, 0, ""] for path in sorted(outside - used - present)}
    return {
        "used": record_files(root.absolute(), map(Path, sorted(outside & used)), jobs),
        "left_out": record_files(root.absolute(), map(Path, sorted(present)), jobs) | missing,
    }


def write_cuts(path: Path, cuts: list[MonoCut]) -> None:
    """Write a split's manifest, ordered by utterance id; its bytes depend on the cuts alone, not on the time."""
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
    ):
        for cut in sorted(cuts, key=lambda cut: cut.id):
            packed.write(json.dumps(cut.to_dict(), ensure_ascii=False).encode() + b"\n")


def read_sentences(path: Path) -> list[str]:
    """The normalised sentences of a text file, plain or .gz, one a line; UserError when it cannot be read."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return [sentence for sentence in map(normalise_text, file) if sentence]
    except FileNotFoundError:
        raise UserError(f"corpus.lm_text: {path}: no such file") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"corpus.lm_text: {path}: cannot be read as UTF-8 text, plain or .gz ({error})") from None


def hours(cuts: Iterable[MonoCut]) -> float:
    return sum(cut.duration for cut in cuts) / 3600
