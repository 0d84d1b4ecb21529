"""Kaldi's yesno: 60 recordings of eight Hebrew words by one speaker, 8 kHz; the file name is the transcript."""

from pathlib import Path

from asr_kd.corpora.librispeech import corpus_folder
from asr_kd.corpora.utterance import Utterance
from asr_kd.errors import UserError
from asr_kd.recipe import Corpus

WORDS = {"0": "no", "1": "yes"}


def read_yesno(corpus: Corpus) -> dict[str, list[Utterance]]:
    """Utterances by split: every second recording to train, the others in turn to dev and test.

    The splits share the only speaker there is.
    """
    folder = corpus_folder(corpus)
    if corpus.download and not folder.is_dir():
        _download(folder)
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        raise UserError(
            f"{folder}: no *.wav here; download OpenSLR SLR1, waves_yesno.tar.gz (--set corpus.download=true)"
        )
    utterances = [_read(path) for path in paths]
    return {"train": utterances[::2], "dev": utterances[1::4], "test": utterances[3::4]}


def _read(path: Path) -> Utterance:
    digits = path.stem.split("_")
    text = " ".join(WORDS[digit] for digit in digits) if set(digits) <= set(WORDS) else ""
    return Utterance(path.stem, "yesno", text, str(path), recording=path.stem)


def _download(folder: Path) -> None:
    if folder.name != "waves_yesno":
        raise UserError(f"corpus.dir: {folder}: the archive unpacks into a folder waves_yesno; let the path end so")
    from lhotse.recipes import download_yesno

    try:
        download_yesno(folder.parent)
    except Exception as error:
        raise UserError(f"{folder}: downloading yesno failed ({error}); try again or unpack it there") from None
