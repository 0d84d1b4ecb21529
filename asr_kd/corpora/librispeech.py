"""LibriSpeech's layout: PART/speaker/chapter/{utterance.flac, speaker-chapter.trans.txt}.

Read here instead of by lhotse.recipes.prepare_librispeech, which drops an utterance without audio silently and stops
at the first unreadable file; the download is lhotse's.
"""

import logging
from pathlib import Path

from asr_kd.corpora.utterance import Utterance
from asr_kd.errors import UserError
from asr_kd.recipe import Corpus

log = logging.getLogger("asr_kd")


def read_librispeech(corpus: Corpus) -> dict[str, list[Utterance]]:
    """Utterances by split. A part named by both dev and test is shared out, every second speaker to each.

    Mini LibriSpeech is why: it has no test part. Raises UserError for a missing folder or a damaged transcript file.
    """
    folder = corpus_folder(corpus)
    if corpus.download:
        _download(folder, (*corpus.train, *corpus.dev, *corpus.test))
    splits = {
        "train": [utterance for part in corpus.train for utterance in _read_part(folder / part)],
        "dev": [utterance for part in corpus.dev for utterance in _read_part(folder / part)],
        "test": [utterance for part in corpus.test for utterance in _read_part(folder / part)],
    }
    if corpus.dev == corpus.test:
        speakers = sorted({utterance.speaker for utterance in splits["dev"]})
        for split, half in (("dev", set(speakers[::2])), ("test", set(speakers[1::2]))):
            splits[split] = [utterance for utterance in splits[split] if utterance.speaker in half]
    return splits


def corpus_folder(corpus: Corpus) -> Path:
    """corpus.dir, which every kind but the embedded corpus needs."""
    if corpus.dir is None:
        raise UserError(f"corpus.dir: not set; the corpus kind {corpus.kind} needs the folder it is in")
    return Path(corpus.dir)


def _read_part(folder: Path) -> list[Utterance]:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; download the corpus (--set corpus.download=true), "
            "or let corpus.dir or ASR_KD_CORPORA name the folder it is in"
        )
    transcripts = sorted(folder.rglob("*.trans.txt"))
    if not transcripts:
        raise UserError(f"{folder}: no *.trans.txt below this folder; it is not a part in LibriSpeech's layout")
    return [utterance for path in transcripts for utterance in _read_chapter(path)]


def _read_chapter(path: Path) -> list[Utterance]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}); unpack the corpus again") from None
    utterances = []
    for line in filter(str.strip, lines):
        name, _, text = line.strip().partition(" ")
        audio = str(path.parent / f"{name}.flac")
        utterances.append(Utterance(name, name.split("-")[0], text, audio, recording=name))
    return utterances


def _download(folder: Path, parts: tuple[str, ...]) -> None:
    missing = sorted({part for part in parts if not (folder / part).is_dir()})
    if not missing:
        return
    if folder.name != "LibriSpeech":
        raise UserError(f"corpus.dir: {folder}: the archives unpack into a folder LibriSpeech; let the path end so")
    from lhotse.recipes import download_librispeech

    log.info("downloading %s into %s", ", ".join(missing), folder)
    try:
        download_librispeech(folder.parent, dataset_parts=missing)
    except Exception as error:
        raise UserError(
            f"{folder}: downloading {', '.join(missing)} failed ({error}); try again or unpack it there"
        ) from None
