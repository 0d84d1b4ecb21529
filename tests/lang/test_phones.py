from pathlib import Path

import pytest

from asr_kd.errors import UserError
from asr_kd.lang.phones import PhoneSet

PHONES = PhoneSet(("AH", "K", "t_h"))


def test_every_base_phone_has_four_positions_after_silence_and_noise() -> None:
    assert PHONES.symbols[:7] == ["<eps>", "SIL", "SPN", "AH_B", "AH_E", "AH_I", "AH_S"]
    assert len(PHONES) == len(PHONES.symbols) == 15
    assert all(PHONES.symbols[number] == symbol for symbol, number in PHONES.ids.items())


def test_a_symbol_splits_into_base_and_position() -> None:
    split = [(PHONES.base(phone), PHONES.position(phone)) for phone in range(1, len(PHONES))]
    assert split[:2] == [("SIL", ""), ("SPN", "")]
    assert split[2:] == [(base, position) for base in PHONES.bases for position in "BEIS"]


@pytest.mark.parametrize(
    ("pronunciation", "marked"),
    [
        (("K",), ["K_S"]),
        (("K", "AH"), ["K_B", "AH_E"]),
        (("K", "AH", "AH", "t_h"), ["K_B", "AH_I", "AH_I", "t_h_E"]),
        (("SPN",), ["SPN"]),
    ],
)
def test_positions_mark_the_ends_of_a_word(pronunciation: tuple[str, ...], marked: list[str]) -> None:
    assert [PHONES.symbols[phone] for phone in PHONES.mark(pronunciation)] == marked


def test_file_round_trip(tmp_path: Path) -> None:
    PHONES.write(tmp_path / "phones.txt")
    assert PhoneSet.read(tmp_path / "phones.txt") == PHONES
    with pytest.raises(UserError, match="run --stage 2"):
        PhoneSet.read(tmp_path / "absent.txt")
