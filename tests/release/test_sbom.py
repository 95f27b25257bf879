"""What a bundle says it is made of: components, licences, hashes; and that it says
nothing where one of them is not known.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from release.sbom import describe
from release.sbom.wheels import read_wheels
from release.target import NotMade, Target
from tests.release.made_wheels import make_bundle, make_sources, make_wheel

LLAMA_CPP = "LICENSES/llama-cpp-python-1.2.3/llama.cpp-abcdef123"


def read_sbom(bundle: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads((bundle / "sbom.cdx.json").read_text())
    return contents


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return make_bundle(tmp_path / "dist")


@pytest.fixture
def described(target: Target, tmp_path: Path) -> Path:
    """A bundle with what is said of it."""
    describe(target, make_sources(tmp_path))
    return target.folder


def test_it_is_valid_cyclonedx(described: Path) -> None:
    text = (described / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert read_sbom(described)["specVersion"] == "1.6"


def test_every_wheel_is_in_it_with_its_hash(described: Path) -> None:
    components = {each["name"]: each for each in read_sbom(described)["components"]}
    assert list(components) == ["appliance", "llama-cpp-python", "needed"]
    needed = components["needed"]
    assert (needed["version"], needed["purl"]) == ("2.0", "pkg:pypi/needed@2.0")
    assert needed["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    (wheel,) = needed["externalReferences"]
    digest = hashlib.sha256((described / wheel["url"]).read_bytes()).hexdigest()
    assert wheel["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_what_is_inside_is_part_of_its_wheel(described: Path) -> None:
    ours, bindings, _ = read_sbom(described)["components"]
    libraries = {part["name"] for part in ours["components"]}
    assert libraries == {
        *("marked", "dompurify", "@highlightjs/cdn-assets"),
        *("novels-6m", "novels-draft", "gcc-runtime"),
    }
    runtime, llama_cpp = bindings["components"]
    assert runtime["licenses"] == [{"expression": "GPL-3.0-or-later WITH GCC-exception-3.1"}]
    assert llama_cpp["purl"] == "pkg:github/ggml-org/llama.cpp@abcdef123"
    assert len(llama_cpp["components"]) == 7


def test_every_licence_text_is_there(described: Path) -> None:
    text = described / "LICENSES" / "needed-2.0" / "LICENSE"
    assert text.read_text() == "licenses/LICENSE of needed-2.0"
    assert (described / LLAMA_CPP / "LICENSE").read_text() == "MIT, the ggml authors"
    stb = (described / LLAMA_CPP / "stb_image" / "LICENSE").read_text()
    assert stb == "/* MIT License of stb_image */"
    assert (described / LLAMA_CPP / "xxhash" / "LICENSE").read_text() == "xxhash"
    assert (described / "LICENSES/appliance-0.1.0/marked-18.2.1/marked.LICENSE").is_file()


def test_the_same_bundle_gives_the_same_text(
    described: Path, target: Target, tmp_path: Path
) -> None:
    before = (described / "sbom.cdx.json").read_bytes()
    describe(target, make_sources(tmp_path))
    assert (described / "sbom.cdx.json").read_bytes() == before


def test_wheels_for_several_pythons_are_one_component(tmp_path: Path) -> None:
    for tag in ("cp310-cp310-linux_x86_64", "cp311-cp311-linux_x86_64"):
        make_wheel(tmp_path / "wheels", "needed-2.0", "License: MIT", tag=tag)
    (component,) = read_wheels(tmp_path / "wheels")
    assert [*component.files] == [
        "wheels/needed-2.0-cp310-cp310-linux_x86_64.whl",
        "wheels/needed-2.0-cp311-cp311-linux_x86_64.whl",
    ]


def test_versions_of_a_package_are_components_of_their_own(tmp_path: Path) -> None:
    for name in ("needed-2.0", "needed-10.0"):
        make_wheel(tmp_path, name, "License: MIT")
    versions = {component.version: component.texts for component in read_wheels(tmp_path)}
    assert [*versions] == ["2.0", "10.0"]
    assert versions["2.0"] == {"LICENSE": b"licenses/LICENSE of needed-2.0"}


def test_a_text_that_a_wheel_lacks_is_that_of_its_people(tmp_path: Path) -> None:
    make_wheel(tmp_path, "huggingface_hub-1.0", "License: Apache-2.0")
    make_wheel(tmp_path, "tokenizers-1.0", "License: Apache-2.0", texts=())
    hub, tokenizers = read_wheels(tmp_path)
    assert tokenizers.texts == hub.texts


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        (["License-Expression: MIT AND Zlib", "License: whatever"], "MIT AND Zlib"),
        (["License: mit"], "MIT"),
        (["License: My own", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
    ],
)
def test_a_licence_is_read_as_it_is_stated(
    tmp_path: Path, headers: list[str], licence: str
) -> None:
    make_wheel(tmp_path, "needed-2.0", *headers)
    assert [component.licence for component in read_wheels(tmp_path)] == [licence]


def test_an_expression_counts_before_what_we_have_read(tmp_path: Path) -> None:
    make_wheel(tmp_path, "numpy-1.0", "License: as in its file")
    make_wheel(tmp_path, "numpy-2.0", "License-Expression: BSD-3-Clause AND Zlib")
    licences = [component.licence for component in read_wheels(tmp_path)]
    assert licences == ["BSD-3-Clause", "BSD-3-Clause AND Zlib"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["License: My own"],
        ["Classifier: License :: OSI Approved :: BSD License"],  # which of them?
        [
            "Classifier: License :: OSI Approved :: MIT License",
            "Classifier: License :: OSI Approved :: Apache Software License",
        ],
    ],
)
def test_a_component_without_a_licence_is_named(tmp_path: Path, headers: list[str]) -> None:
    make_wheel(tmp_path, "needed-2.0", *headers)
    with pytest.raises(NotMade, match=r"^the licence of needed 2\.0 is not known"):
        read_wheels(tmp_path)


def test_a_component_without_its_licence_text_is_named(tmp_path: Path) -> None:
    make_wheel(tmp_path, "needed-2.0", "License: MIT", texts=())
    with pytest.raises(NotMade, match=r"^needed 2\.0 has no licence text"):
        read_wheels(tmp_path)


@pytest.mark.parametrize("missing", ["LICENSE", "vendor/hash/xxhash/LICENSE"])
def test_a_text_that_moved_in_the_sources_is_named(
    target: Target, tmp_path: Path, missing: str
) -> None:
    sources = make_sources(tmp_path)
    (sources.bindings / "vendor/llama.cpp" / missing).unlink()
    with pytest.raises(NotMade, match=f"{missing} is not there any more"):
        describe(target, sources)


def test_a_comment_that_is_gone_is_named(target: Target, tmp_path: Path) -> None:
    sources = make_sources(tmp_path)
    header = sources.bindings / "vendor/llama.cpp/vendor/stb/stb_image.h"
    header.write_text("int nothing;")
    with pytest.raises(NotMade, match=r"stb_image\.h has no comment with 'MIT License'"):
        describe(target, sources)
