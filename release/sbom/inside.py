"""What is inside our wheels, and in none of its own: llama.cpp, what the compiler adds, the
page's libraries, models.

Knows where their licences are. Knows nothing of other people's wheels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from packageurl import PackageURL

from appliance.store.catalog import Catalog, load_catalog
from appliance.web.files import STATIC
from release.sbom.component import Component, sha256
from release.target import CHECKOUT, NotMade
from release.toolchain import GCC

OURS = "appliance"
BINDINGS = "llama-cpp-python"

VENDOR = STATIC / "vendor"
# | marked.esm.js | marked | 18.2.1 | lib/marked.esm.js | MIT ([TEXT](TEXT)) | SHA-256 |
VENDORED = re.compile(
    r"^\| (?P<file>\S+) \| (?P<package>\S+) \| (?P<version>\d[\d.]*) \| \S+ \|"
    r" (?P<licence>[^(|]+) \(\[(?P<text>[\w.]+)\]\([\w.]+\)\) \| (?P<sha256>[0-9a-f]{64}) \|$",
    re.MULTILINE,
)
COMMIT = re.compile(rb"ggml-org/llama\.cpp@([0-9a-f]{7,40})")
COMMENT = re.compile(rb"/\*.*?\*/|(?:^//[^\n]*\n)+", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class CompiledIn:
    """What llama.cpp took over from others, and compiles into its libraries."""

    name: str
    licence: str
    file: str  # in llama.cpp's sources
    words: bytes = b""  # the text is the file's comment with these; without any, the whole file


COMPILED_IN = (
    CompiledIn("llamafile-sgemm", "MIT", "ggml/src/ggml-cpu/llamafile/sgemm.cpp", b"Copyright"),
    CompiledIn("miniaudio", "Unlicense OR MIT-0", "vendor/miniaudio/miniaudio.h", b"MIT No"),
    CompiledIn("rotate-bits", "MIT", "vendor/hash/rotate-bits/LICENSE.md"),
    CompiledIn("sha256", "Public domain", "vendor/hash/sha256/LICENSE"),
    CompiledIn("stb_image", "MIT OR Unlicense", "vendor/stb/stb_image.h", b"MIT License"),
    CompiledIn("subprocess.h", "Unlicense", "vendor/sheredom/subprocess.h", b"public domain"),
    CompiledIn("xxhash", "BSD-2-Clause", "vendor/hash/xxhash/LICENSE"),
)


@dataclass(frozen=True)
class Sources:
    """What a bundle was made of, beside this checkout."""

    bindings: Path  # llama-cpp-python's sources, unpacked
    system: Path = Path("/")  # has the compiler, as Debian installs it


def with_parts(
    components: tuple[Component, ...], sources: Sources, machine: str
) -> tuple[Component, ...]:
    """The same components, each with what is inside it.

    Raises `NotMade` where a text is not where it was.
    """
    catalog = load_catalog(CHECKOUT / "models" / "catalog.toml")
    compiler = gcc_runtime(sources.system, machine)
    return tuple(
        replace(component, parts=tuple(_parts(component, catalog, sources, compiler)))
        for component in components
    )


def _parts(
    component: Component, catalog: Catalog, sources: Sources, compiler: Component
) -> Iterator[Component]:
    if component.name == OURS:
        yield from page_libraries(VENDOR)
        yield from _embedded_models(component, catalog)
        yield compiler
    elif component.name == BINDINGS:
        yield llama_cpp(sources.bindings)
        yield compiler
    else:
        yield from _packaged_models(component, catalog)


def gcc_runtime(system: Path, machine: str) -> Component:
    """libstdc++, which is linked into what we compile, and libgomp, which lies beside it."""
    packages = (f"gcc-{GCC}-base", f"gcc-{GCC}-{machine.replace('_', '-')}-linux-gnu-base")
    texts = [system / "usr/share/doc" / package / "copyright" for package in packages]
    text = next(filter(Path.is_file, texts), texts[0])
    return Component(
        name="gcc-runtime",
        version=str(GCC),
        licence="GPL-3.0-or-later WITH GCC-exception-3.1",
        texts={
            "copyright": _read(text),
            "GPL-3": _read(system / "usr/share/common-licenses/GPL-3"),
        },
    )


def page_libraries(vendor: Path) -> Iterator[Component]:
    """The libraries in the page's folder, by the table of its README."""
    return (
        Component(
            name=row["package"],
            version=row["version"],
            licence=row["licence"],
            texts={row["text"]: (vendor / row["text"]).read_bytes()},
            purl=PackageURL.from_string(
                f"pkg:npm/{row['package'].replace('@', '%40')}@{row['version']}"
            ),
            files={row["file"]: row["sha256"]},
        )
        for row in VENDORED.finditer((vendor / "README.md").read_text(encoding="utf-8"))
    )


def _embedded_models(ours: Component, catalog: Catalog) -> Iterator[Component]:
    """The checkpoints that travel in our wheel; their licence is that of the sources."""
    return (
        Component(
            name=entry.name,
            version=ours.version,
            licence=entry.licence,
            texts=ours.texts,
            is_model=True,
            files={file.name: sha256(file) for file in sorted(entry.checkpoint.iterdir())},
        )
        for entry in catalog.entries
        if entry.checkpoint is not None
    )


def _packaged_models(package: Component, catalog: Catalog) -> Iterator[Component]:
    return (
        Component(
            name=entry.name,
            version=package.version,
            licence=entry.licence,
            texts=package.texts,
            is_model=True,
            files={entry.packaged.file: entry.packaged.sha256},
        )
        for entry in catalog.entries
        if entry.packaged is not None
        and entry.packaged.package == f"{package.name}=={package.version}"
    )


def llama_cpp(bindings: Path) -> Component:
    """llama.cpp as the sources of llama-cpp-python have it; its commit is the newest that
    their changelog names.
    """
    commit = COMMIT.search(_read(bindings / "CHANGELOG.md"))
    if commit is None:
        raise NotMade("the changelog of llama-cpp-python names no commit of llama.cpp")
    version = commit[1].decode()
    sources = bindings / "vendor" / "llama.cpp"
    return Component(
        name="llama.cpp",
        version=version,
        licence="MIT",
        texts={"LICENSE": _read(sources / "LICENSE")},
        purl=PackageURL("github", namespace="ggml-org", name="llama.cpp", version=version),
        parts=tuple(
            Component(
                name=taken.name,
                licence=taken.licence,
                texts={"LICENSE": _find_text(taken, _read(sources / taken.file))},
            )
            for taken in COMPILED_IN
        ),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotMade(f"{path} is not there any more: where is this licence now?") from error


def _find_text(taken: CompiledIn, source: bytes) -> bytes:
    if not taken.words:
        return source
    comments = (match[0] for match in COMMENT.finditer(source) if taken.words in match[0])
    text = next(comments, None)
    if text is None:
        raise NotMade(f"{taken.file} has no comment with {taken.words.decode()!r} any more")
    return text
