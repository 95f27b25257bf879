"""The bundle as a container's image.

Knows how it is put together; that is done by a builder, such as podman, buildah or docker.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from release.target import Target

CONTAINERFILE = Path(__file__).with_name("Containerfile")


def put_containerfile(target: Target) -> None:
    """Into the bundle, which is then all that a builder needs."""
    shutil.copy(CONTAINERFILE, target.folder)
