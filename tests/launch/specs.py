"""What a launch takes from the settings, as tests write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.launch.spec import ModelSpec
from appliance.settings import ModelSettings
from appliance.store.event import StoreEvent


def spec_of(folder: Path, argument: str = "novels-6m", **settings: Any) -> ModelSpec:
    """Of the model named `argument`, with these settings of a model."""
    return ModelSpec(
        argument=argument,
        settings=ModelSettings(**settings),
        models_dir=folder / "models",
        state_dir=folder / "state",
    )


class Events(list[StoreEvent]):
    """Everything that was reported."""

    def __call__(self, event: StoreEvent) -> None:
        self.append(event)

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self]
