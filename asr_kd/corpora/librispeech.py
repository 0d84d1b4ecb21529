"""LibriSpeech's layout: PART/speaker/chapter/{utterance.flac, speaker-chapter.trans.txt}.

Read here instead of by lhotse.recipes.prepare_librispeech, which drops an utterance without audio silently and stops
at the first unreadable file; the download is lhotse's.
"""

import logging
from dataclasses import replace
from pathlib import Path

from asr_kd.corpora.utterance import Fault, Utterance, without_notes
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

    def read(parts: tuple[str, ...]) -> list[Utterance]:
        utterances = [utterance for part in parts for utterance in _read_part(folder / part)]
        return confined(utterances, folder) if corpus.untrusted else utterances

    splits = {"train": read(corpus.train), "dev": read(corpus.dev), "test": read(corpus.test)}
    if corpus.dev == corpus.test:
        speakers = sorted({utterance.speaker for utterance in without_notes(splits["dev"])})
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
    utterances = [utterance for path in transcripts for utterance in _read_chapter(path)]
    known = {utterance.audio for utterance in utterances}
    silent = Fault("audio without transcript", "in no *.trans.txt", is_note=True)
    unknown = [path for path in sorted(folder.rglob("*.flac")) if str(path) not in known]
    return utterances + [
        Utterance(path.stem, path.stem.split("-")[0], "", str(path), path.stem, fault=silent) for path in unknown
    ]


def _read_chapter(path: Path) -> list[Utterance]:
    try:
        lines = decoded_lines(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); unpack the corpus again") from None
    utterances = []
    for number, (line, is_text) in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, text = line.strip().partition(" ")
        fault = None if is_text else Fault("text is not UTF-8", f"{path}:{number}: not UTF-8 text")
        if "/" in name or "\0" in name or name in (".", ".."):
            fault = Fault("audio outside the corpus", f"{path}:{number}: an utterance id is not a path")
        audio = str(path.parent / f"{name}.flac")
        utterances.append(Utterance(name, name.split("-")[0], text, audio, recording=name, fault=fault))
    return utterances


def decoded_lines(path: Path) -> list[tuple[str, bool]]:
    """The lines of a text file, each with whether it is UTF-8; what is not is shown as �. Raises OSError."""
    lines = path.read_bytes().split(b"\n")
    if not lines[-1]:
        lines.pop()
    texts = [line.decode("utf-8", errors="replace").rstrip("\r") for line in lines]
    return [(text, text.encode() == line.rstrip(b"\r")) for text, line in zip(texts, lines, strict=True)]


def confined(utterances: list[Utterance], folder: Path) -> list[Utterance]:
    """With a fault for each whose audio is a command or, links followed, not below `folder`: manifests of strangers."""
    root = folder.resolve()

    def check(utterance: Utterance) -> Utterance:
        if utterance.fault:
            return utterance
        if utterance.audio.endswith("|"):
            return replace(utterance, fault=Fault("command as audio", f"corpus.untrusted: {utterance.audio}"))
        if "\0" in utterance.audio or not Path(utterance.audio).resolve().is_relative_to(root):
            return replace(utterance, fault=Fault("audio outside the corpus", f"not below {folder}: {utterance.audio}"))
        return utterance

    return [check(utterance) for utterance in utterances]


def missing_parts(folder: Path, parts: tuple[str, ...]) -> list[str]:
    """Those that a download would fetch."""
    return sorted({part for part in parts if not (folder / part).is_dir()})


def _download(folder: Path, parts: tuple[str, ...]) -> None:
    missing = missing_parts(folder, parts)
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
