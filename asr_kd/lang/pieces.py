"""Pieces of words: byte-pair encoding by sentencepiece, so that a decoder over pieces can say a word never seen.

A piece that begins a word carries sentencepiece's mark, U+2581: `▁un` `believ` `able`.
"""

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from asr_kd.errors import UserError
from asr_kd.files import atomic_path
from asr_kd.lang.lexicon import is_word

MARK = "▁"  # alone a piece too: before a letter that begins too few words for a piece of its own
PIECES = 2000  # Kaldi's and icefall's LibriSpeech recipes have 500 to 5000


@dataclass(frozen=True)
class Pieces:
    """`model`: sentencepiece's serialised ModelProto."""

    model: bytes

    @staticmethod
    def train(counts: Mapping[str, int], letters: Collection[str], size: int) -> "Pieces":
        """Learn at most `size` pieces from words and how often each occurs; every letter is one of them.

        The words are given sorted, each once with its count, to one thread, and none is sampled: the model depends on
        the counts alone. Raises UserError where there is no word, or `size` is too small for the letters.
        """
        if not counts:
            raise UserError("lang.tokens: the LM text has no word in the letters of the training transcripts")
        least = len({MARK, *letters}) + 1
        if size < least:
            raise UserError(f"lang.pieces: {size} cannot hold the {len(letters)} letters; set it to {least} or more")
        model = io.BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=(f"{word}\t{counts[word]}" for word in sorted(counts)),
            input_format="tsv",
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,  # a small text has fewer
            character_coverage=1.0,
            required_chars="".join(sorted(letters)),
            normalization_rule_name="identity",
            split_by_unicode_script=False,  # it would keep 's apart
            split_by_number=False,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        return Pieces(model.getvalue())

    @staticmethod
    def read(path: Path) -> "Pieces":
        """UserError names a file that is missing or damaged."""
        try:
            pieces = Pieces(path.read_bytes())
            if pieces.model and pieces.symbols:
                return pieces
        except FileNotFoundError:
            raise UserError(f"{path}: missing; run --stage 2 (lang)") from None
        except RuntimeError:
            pass
        raise UserError(f"{path}: not a sentencepiece model, or damaged; remove it and run --stage 2 (lang)")

    @staticmethod
    def of(lang: Path, symbols: Iterable[str]) -> "Pieces | None":
        """The pieces that the tokens `symbols` (of words.txt) are, or None where they are words.

        UserError where lang/pieces.model is damaged or has other pieces.
        """
        path = lang / "pieces.model"
        if not path.exists():
            return None
        pieces = Pieces.read(path)
        if pieces.symbols.symmetric_difference(filter(is_word, symbols)):
            raise UserError(f"{path}: its pieces are not those of words.txt; remove it and run --stage 2 (lang)")
        return pieces

    def write(self, path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(self.model)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """The pieces, without <unk> and what looks like a mark."""
        count = self._processor.get_piece_size()
        return frozenset(filter(is_word, map(self._processor.id_to_piece, range(count))))

    def split(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The sentences in pieces; a word that has none (a mark, a letter not known) stays whole, as no known token."""
        words = sorted({word for sentence in sentences for word in sentence})
        table = dict(zip(words, self._processor.encode(words, out_type=str), strict=True))
        for word, pieces in table.items():
            if not (is_word(word) and self.symbols.issuperset(pieces) and self.join(pieces) == [word]):
                table[word] = [word]
        return [[piece for word in sentence for piece in table[word]] for sentence in sentences]

    def join(self, pieces: Sequence[str]) -> list[str]:
        """The words that the pieces make."""
        return self._processor.decode_pieces(list(pieces)).split()

    @cached_property
    def _processor(self) -> SentencePieceProcessor:
        return SentencePieceProcessor(model_proto=self.model)
