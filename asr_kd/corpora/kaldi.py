"""Kaldi data directories: wav.scp, text, utt2spk and, where utterances are pieces of recordings, segments.

Read here instead of by lhotse.kaldi.load_kaldi_data_dir, which fails as a whole where one utterance is wrong.
"""

from dataclasses import dataclass, field
from pathlib import Path

from asr_kd.corpora.librispeech import confined, corpus_folder, decoded_lines
from asr_kd.corpora.utterance import Fault, Utterance
from asr_kd.errors import UserError
from asr_kd.recipe import Corpus

Span = tuple[str, float, float | None]  # recording, start, end


@dataclass
class Table:
    """A file of `key value…` lines: what can be used, and what is wrong with other keys."""

    rows: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)


def read_kaldi(corpus: Corpus) -> dict[str, list[Utterance]]:
    """Utterances by split, from the data directories corpus.dir/PART.

    Raises UserError naming a file that is missing or not well formed.
    """
    folder = corpus_folder(corpus)

    def read(parts: tuple[str, ...]) -> list[Utterance]:
        utterances = [utterance for part in parts for utterance in read_data_directory(folder / part)]
        return confined(utterances, folder) if corpus.untrusted else utterances

    return {"train": read(corpus.train), "dev": read(corpus.dev), "test": read(corpus.test)}


def read_data_directory(folder: Path) -> list[Utterance]:
    """The utterances of `text`, in its order, those that cannot be used with their faults; then, as notes, those that
    have audio and no text.

    As in Kaldi a relative path in wav.scp counts from the working directory, and an end time of -1 in segments is
    the end of the recording.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such data directory; set corpus.dir and the names of corpus.train, dev and test")
    audio, speakers, texts = (_read_table(folder / name) for name in ("wav.scp", "utt2spk", "text"))
    has_segments = (folder / "segments").exists()
    spans, cut_wrong = _read_segments(folder / "segments") if has_segments else ({}, {})
    utterances = []
    for name in dict.fromkeys([*texts.rows, *texts.faults]):
        recording, start, end = spans.get(name, (name, 0.0, None))
        faults = (texts.faults.get(name), speakers.faults.get(name), cut_wrong.get(name), audio.faults.get(recording))
        text, speaker = texts.rows.get(name, ""), speakers.rows.get(name, "")
        source = audio.rows.get(recording, f"{recording} of {folder / 'wav.scp'}")
        fault = next(filter(None, faults), None)
        utterances.append(Utterance(name, speaker, text, source, recording, start, end, fault=fault))
    silent = Fault("audio without transcript", f"not in {folder / 'text'}", is_note=True)
    heard = spans if has_segments else audio.rows
    known = {utterance.id for utterance in utterances}
    return utterances + [Utterance(name, "", "", "", name, fault=silent) for name in heard if name not in known]


def _read_segments(path: Path) -> tuple[dict[str, Span], dict[str, Fault]]:
    table, segments = _read_table(path), dict[str, Span]()
    for name, row in table.rows.items():
        try:
            recording, start, end = row.split()
            segments[name] = (recording, float(start), None if float(end) < 0 else float(end))
        except ValueError:
            reason = f"{path}: {name} {row}: write 'utterance recording start end' with times in seconds"
            table.faults[name] = Fault("segment", reason)
    return segments, table.faults


def _read_table(path: Path) -> Table:
    """The value of a key may be empty. A key that occurs twice, or is not UTF-8 text, has a fault."""
    table = Table()
    try:
        lines = decoded_lines(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; a Kaldi data directory has wav.scp, text and utt2spk") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    for number, (line, is_text) in enumerate(lines, start=1):
        key, *value = line.split(maxsplit=1)[:2] or [""]
        if not key:
            raise UserError(f"{path}:{number}: empty line; remove it (utils/fix_data_dir.sh)")
        if not is_text:
            table.faults[key] = Fault("text is not UTF-8", f"{path}:{number}: not UTF-8 text")
        elif key in table.rows:
            table.faults[key] = Fault("utterance id occurs twice", f"{path}:{number}: {key} occurs twice")
        else:
            table.rows[key] = value[0].strip() if value else ""
    return table
