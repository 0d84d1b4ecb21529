"""What several rooms' tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

# A machine with other work on it must not fail a test for its time.
settings.register_profile("asr_kd", deadline=None)
settings.load_profile("asr_kd")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real recordings that lie beside the checkout on some machines."""
    data = REPOSITORY.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip("no ../shared/data beside the checkout")
    return data
