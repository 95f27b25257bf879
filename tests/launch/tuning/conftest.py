"""The embedded model as tuning meets it: its settings and its prepared file."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.launch.files import PreparedModel, prepare_model
from appliance.launch.names import model_spec
from appliance.settings import ServeSettings
from tests.conftest import Embedded
from tests.launch.specs import Events
from tests.launch.tuning.remembered import settings_for


@pytest.fixture
def settings(embedded: Embedded, tmp_path: Path) -> ServeSettings:
    return settings_for(embedded, tmp_path)


@pytest.fixture
def model(settings: ServeSettings) -> PreparedModel:
    return prepare_model(model_spec(settings), Events())
