"""Wheels as files in memory: read, changed, and written so that the same files give the
same bytes.

Knows the format (PEP 427), and nothing of what is inside.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: no build's own


@dataclass(frozen=True)
class WheelFile:
    content: bytes
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """What a wheel holds, without its RECORD, which is made when it is written."""

    name: str  # as in file names: llama_cpp_python
    version: str
    tag: str  # py3-none-any
    files: dict[str, WheelFile]

    @classmethod
    def read(cls, path: Path) -> Wheel:
        name, version, tag = path.stem.split("-", 2)
        with zipfile.ZipFile(path) as archive:
            files = {
                info.filename: WheelFile(
                    archive.read(info), executable=bool(info.external_attr >> 16 & 0o100)
                )
                for info in archive.infolist()
                if not info.is_dir()
            }
        wheel = cls(name=name, version=version, tag=tag, files=files)
        files.pop(f"{wheel.dist_info}/RECORD")
        return wheel

    @property
    def dist_info(self) -> str:
        return f"{self.name}-{self.version}.dist-info"

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-{self.tag}.whl"

    def retagged(self, tag: str) -> Wheel:
        """Of another platform, or of several with dots between. The generator's name and
        version go: they say nothing of what is inside.
        """
        pure = "false" if not tag.endswith("-any") else "true"
        lines = ["Wheel-Version: 1.0", "Generator: appliance-release", f"Root-Is-Purelib: {pure}"]
        python, abi, platforms = tag.split("-")
        lines += [f"Tag: {python}-{abi}-{platform}" for platform in platforms.split(".")]
        said = WheelFile(("\n".join(lines) + "\n").encode())
        return replace(self, tag=tag, files=self.files | {f"{self.dist_info}/WHEEL": said})

    def write(self, folder: Path) -> Path:
        """Into `folder`, under the name that its tag gives it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.filename
        # metadata last, as the format recommends
        names = sorted(self.files, key=lambda name: (name.startswith(self.dist_info), name))
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                _add(archive, name, self.files[name])
            _add(archive, f"{self.dist_info}/RECORD", WheelFile(self._record(names)))
        return path

    def _record(self, names: list[str]) -> bytes:
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        for name in names:
            content = self.files[name].content
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            rows.writerow((name, f"sha256={digest.decode()}", len(content)))
        rows.writerow((f"{self.dist_info}/RECORD", "", ""))
        return out.getvalue().encode()


def _add(archive: zipfile.ZipFile, name: str, file: WheelFile) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system = 3  # Unix, also where it is made elsewhere: modes count
    info.external_attr = (0o100755 if file.executable else 0o100644) << 16
    archive.writestr(info, file.content, zipfile.ZIP_DEFLATED)
