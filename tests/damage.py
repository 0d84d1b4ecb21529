"""Damage to the bytes of files, for tests of all that read them."""

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from asr_kd.errors import UserError

Steps = list[tuple[str, float, float, bytes]]
EXAMPLES = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
JUNK = [b"", b"\x00", b"\xff", b"-1", b"1e999", b"nan", b"null", b"[]", b"{}", b"9" * 30, b"\n", b"..", b"/", b"|",
        b"&a [*a]", b"2026-13-45", b'"', "²".encode(), "\u2028".encode(), b"\\1-grams:"]  # fmt: skip


@st.composite
def damages(draw: st.DrawFn) -> Steps:
    """One to three damages: what, where and how much as shares of the length, and with what."""
    damage = st.tuples(
        st.sampled_from(["cut", "drop", "flip", "insert", "replace", "repeat"]),
        st.floats(0, 1), st.floats(0, 0.2), st.one_of(st.sampled_from(JUNK), st.binary(max_size=4)),
    )  # fmt: skip
    return draw(st.lists(damage, min_size=1, max_size=3))


def damaged(content: bytes, steps: Steps) -> bytes:
    for what, where, share, junk in steps:
        start = round(where * len(content))
        end = start + round(share * len(content))
        if what == "cut":
            content = content[:start]
        elif what == "flip" and start < len(content):
            content = content[:start] + bytes([content[start] ^ (1 << len(junk) % 8)]) + content[start + 1 :]
        elif what == "drop":
            content = content[:start] + content[end:]
        elif what == "insert":
            content = content[:start] + junk + content[start:]
        elif what == "replace":
            content = content[:start] + junk + content[end:]
        else:
            content = content[:end] + content[start:]
    return content


def read_or_refuse(read: Callable[[], object]) -> None:
    """Nothing but an answer or a refusal of one line comes of it."""
    try:
        read()
    except UserError as error:
        assert str(error) and len(str(error).splitlines()) == 1
