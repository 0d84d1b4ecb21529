"""Kaldi data directories: wav.scp, text, utt2spk and, where utterances are pieces of recordings, segments.

Read here instead of by lhotse.kaldi.load_kaldi_data_dir, which fails as a whole where one utterance is wrong.
"""

from pathlib import Path

from asr_kd.corpora.librispeech import corpus_folder
from asr_kd.corpora.utterance import Utterance
from asr_kd.errors import UserError
from asr_kd.recipe import Corpus


def read_kaldi(corpus: Corpus) -> dict[str, list[Utterance]]:
    """Utterances by split, from the data directories corpus.dir/PART.

    Raises UserError naming a file that is missing or not well formed.
    """
    folder = corpus_folder(corpus)
    return {
        "train": [utterance for part in corpus.train for utterance in read_data_directory(folder / part)],
        "dev": [utterance for part in corpus.dev for utterance in read_data_directory(folder / part)],
        "test": [utterance for part in corpus.test for utterance in read_data_directory(folder / part)],
    }


def read_data_directory(folder: Path) -> list[Utterance]:
    """The utterances of `text`, in its order; one without audio, segment or speaker stays in, to be listed as excluded.

    As in Kaldi a relative path in wav.scp counts from the working directory, and an end time of -1 in segments is
    the end of the recording.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such data directory; set corpus.dir and the names of corpus.train, dev and test")
    audio = _read_table(folder / "wav.scp")
    speakers = _read_table(folder / "utt2spk")
    texts = _read_table(folder / "text")
    segments = _read_segments(folder / "segments") if (folder / "segments").exists() else None
    utterances = []
    for name, text in texts.items():
        recording, start, end = (name, 0.0, None) if segments is None else segments.get(name, (name, 0.0, None))
        speaker, source = speakers.get(name, ""), audio.get(recording, f"{recording} of {folder / 'wav.scp'}")
        utterances.append(Utterance(name, speaker, text, source, recording, start, end))
    return utterances


def _read_segments(path: Path) -> dict[str, tuple[str, float, float | None]]:
    segments: dict[str, tuple[str, float, float | None]] = {}
    for number, (name, row) in enumerate(_read_table(path).items(), start=1):
        try:
            recording, start, end = row.split()
            segments[name] = (recording, float(start), None if float(end) < 0 else float(end))
        except ValueError:
            raise UserError(f"{path}:{number}: write 'utterance recording start end' with times in seconds") from None
    return segments


def _read_table(path: Path) -> dict[str, str]:
    """Lines of `key value…` as a dictionary; the value may be empty."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; a Kaldi data directory has wav.scp, text and utt2spk") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        key, *value = line.split(maxsplit=1)[:2] or [""]
        if not key:
            raise UserError(f"{path}:{number}: empty line; remove it (utils/fix_data_dir.sh)")
        if key in table:
            raise UserError(f"{path}:{number}: {key} occurs twice; keep one (utils/fix_data_dir.sh)")
        table[key] = value[0].strip() if value else ""
    return table
