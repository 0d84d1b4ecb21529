import sys
from pathlib import Path
from types import ModuleType

import pytest
from fake_stages import Factory, stage_of

from asr_kd.pipeline import STAGE_NAMES

BASE = "corpus: {kind: embedded}\nteachers: {members: 3}\ndecode: {systems: [baseline, student]}\n"


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Factory:
    """Stages that leave a mark with the maker's name in every file; a finished member is not trained again."""
    made = Factory()
    monkeypatch.setattr("asr_kd.experiment.scheduler.POLL_SECONDS", 0)
    for name in STAGE_NAMES:
        module = ModuleType(f"asr_kd.stages.{name}")
        module.run = stage_of(name, made.trained)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"asr_kd.stages.{name}", module)
    return made


@pytest.fixture
def base_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path
