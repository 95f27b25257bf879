"""The page's files as they are served: to whom, with which headers, how large; what they
load, and from where.
"""

from __future__ import annotations

import hashlib
import re

import pytest

from appliance.api.app import create_app
from appliance.api.page import CONTENT_SECURITY_POLICY, PAGE_PATHS
from appliance.web.files import PAGE, STATIC, PageFile, page_files
from tests.api.scripted_client import ScriptedClient, gateway_around, http_to

BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"
MOST_BYTES = 500_000  # of a whole visit, unpacked
SOURCES = [file for file in page_files().values() if not file.path.startswith("vendor/")]
IMPORT = re.compile(r"""(?:^|\n)(?:import|export)\b[^;]*?["'](\.[^"']+)["']""")


async def test_a_browser_gets_the_page_without_a_key_and_others_what_they_got() -> None:
    app = create_app(gateway_around(ScriptedClient(), keys=["secret"]))
    async with http_to(app) as http:
        page = await http.get("/", headers={"accept": BROWSER})
        text = await http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.content == (STATIC / PAGE).read_bytes()
    assert page.headers["vary"].startswith("Accept")
    assert text.text.startswith("Ollama is running\n")


async def test_every_file_is_served_as_it_lies_there_and_with_the_policy() -> None:
    app = create_app(gateway_around(ScriptedClient(), keys=["secret"]))
    async with http_to(app) as http:
        for path in PAGE_PATHS:
            response = await http.get(path)
            file = STATIC / path.removeprefix("/web/")
            assert (response.status_code, response.content) == (200, file.read_bytes())
            assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"
            assert response.headers["cache-control"] == "no-cache"
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            assert response.headers["etag"] == f'W/"{digest[:32]}"'


@pytest.mark.parametrize("path", ["/", "/web/app.js"])
async def test_what_a_browser_has_is_not_sent_again(path: str) -> None:
    async with http_to(create_app(gateway_around(ScriptedClient())), accept=BROWSER) as http:
        first = await http.get(path)
        tag = first.headers["etag"]
        for held in (tag, f'"other", {tag}', "*"):
            again = await http.get(path, headers={"if-none-match": held})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        other = await http.get(path, headers={"if-none-match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize(
    "path",
    ["/web/", "/web", "/web/index.html", "/web/../app.py", "/web/vendor/README.md", "/web/none.js"],
)
async def test_nothing_else_lies_below_it(path: str) -> None:
    async with http_to(create_app(gateway_around(ScriptedClient(), keys=["secret"]))) as http:
        assert (await http.get(path)).status_code == 401
        key = {"authorization": "Bearer secret"}
        assert (await http.get(path, headers=key)).status_code == 404


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    policy = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' data: blob:"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY


def test_a_visit_loads_less_than_half_a_megabyte() -> None:
    assert sum(len(file.data) for file in page_files().values()) < MOST_BYTES


def test_no_script_and_no_style_stands_in_the_page() -> None:
    html = (STATIC / PAGE).read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", html) == []


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.path)
def test_a_source_loads_what_is_there_and_makes_no_html_of_text(file: PageFile) -> None:
    path = STATIC / file.path
    text = path.read_text(encoding="utf-8")
    for name in IMPORT.findall(text):
        target = (path.parent / name).resolve().relative_to(STATIC)
        assert target.as_posix() in page_files()
    for name in re.findall(r'(?:src|href)="(web/[^"]+)"', text):
        assert name.removeprefix("web/") in page_files()
    addresses = set(re.findall(r"https?://[\w.]+", text)) - {"http://www.w3.org"}
    assert addresses == set(), "the page asks nobody else"
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text) == []
