"""Transcripts and how they are written: text, JSON, CTM."""

import json
from dataclasses import dataclass
from pathlib import Path

from asr_kd.deploy.words import Word


@dataclass(frozen=True)
class Transcript:
    """name: the file's, or `-` for standard input; seconds: its length."""

    name: str
    seconds: float
    words: list[Word]

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)

    def as_text(self) -> str:
        """`name word word …`, as in Kaldi's text files."""
        return f"{self.name} {self.text}".rstrip()

    def as_json(self) -> str:
        """One line: `{"file", "seconds", "text", "words": [{"word", "start", "end", "confidence"}]}`."""
        words = [
            {"word": w.word, "start": round(w.start, 2), "end": round(w.end, 2), "confidence": round(w.confidence, 3)}
            for w in self.words
        ]
        content = {"file": self.name, "seconds": round(self.seconds, 2), "text": self.text, "words": words}
        return json.dumps(content, ensure_ascii=False)

    def as_ctm(self) -> str:
        """A line a word: file, channel 1, start, duration, word, confidence (NIST's ctm); the file without folder and
        ending, as utterances are named.
        """
        name = "_".join(Path(self.name).stem.split()) or "-"
        return "\n".join(
            f"{name} 1 {word.start:.2f} {word.end - word.start:.2f} {word.word} {word.confidence:.3f}"
            for word in self.words
        )
