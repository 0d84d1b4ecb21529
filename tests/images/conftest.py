from collections.abc import Iterator

import pytest

from asr_kd.nn.products import threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield
