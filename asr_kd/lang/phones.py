"""The phone inventory: base phones, and the same phones marked with their position in the word."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asr_kd.errors import UserError
from asr_kd.files import write_text

EPSILON, SILENCE, NOISE = "<eps>", "SIL", "SPN"
POSITIONS = ("B", "E", "I", "S")


@dataclass(frozen=True)
class PhoneSet:
    """Ids: 0 <eps>, 1 SIL, 2 SPN, then each base phone with _B, _E, _I and _S (begin, end, internal, singleton)."""

    bases: tuple[str, ...]

    @cached_property
    def symbols(self) -> list[str]:
        return [EPSILON, SILENCE, NOISE, *(f"{base}_{position}" for base in self.bases for position in POSITIONS)]

    @cached_property
    def ids(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return 3 + len(self.bases) * len(POSITIONS)

    def base(self, phone: int) -> str:
        """The phone id's base symbol: SIL, SPN or the phone without its position."""
        symbol = self.symbols[phone]
        return symbol.rpartition("_")[0] or symbol

    def position(self, phone: int) -> str:
        """B, E, I or S; empty for silence and noise."""
        return self.symbols[phone].rpartition("_")[2] if phone > self.ids[NOISE] else ""

    def mark(self, pronunciation: tuple[str, ...]) -> list[int]:
        """Phone ids of a pronunciation in base phones, with word positions marked."""
        ids, last = self.ids, len(pronunciation) - 1
        if pronunciation in ((SILENCE,), (NOISE,)):
            return [ids[pronunciation[0]]]
        if last == 0:
            return [ids[f"{pronunciation[0]}_S"]]
        where = ["B", *["I"] * (last - 1), "E"]
        return [ids[f"{base}_{position}"] for base, position in zip(pronunciation, where, strict=True)]

    def write(self, path: Path) -> None:
        write_text(path, "".join(f"{symbol} {number}\n" for number, symbol in enumerate(self.symbols)))

    @staticmethod
    def read(path: Path) -> "PhoneSet":
        try:
            symbols = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            raise UserError(f"{path}: missing; run --stage 2 (lang)") from None
        return PhoneSet(tuple(symbol[:-2] for symbol in symbols[3:] if symbol.endswith("_B")))
