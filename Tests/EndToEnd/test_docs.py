# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The examples in the documentation are what they say they are."""

import re
import shutil
import subprocess

import pytest
from harness.gateway import binary
from harness.processes import ROOT, environment

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGURATIONS = [
    pytest.param(text, id=f"{page.name}-{index}")
    for page in PAGES
    for index, text in enumerate(re.findall(r"^```jsonc\n(.*?)^```", page.read_text(), re.S | re.M))
] + [pytest.param(path.read_text(), id=path.name) for path in sorted((ROOT / "examples").glob("*.json"))]


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_example_configuration_loads(tmp_path, certificates, text):
    """Every configuration that a reader can copy loads, where the certificates and secrets that it names are there."""
    path = tmp_path / "config.json"
    for name in re.findall(r"/etc/mcp-proxy/([\w-]+\.pem)", text):
        shutil.copy(certificates / "ca.pem", tmp_path / name)
    for name in re.findall(r"\$\{file:(?:/run/secrets|\$\{CREDENTIALS_DIRECTORY\})/([\w-]+)\}", text):
        (tmp_path / name).write_text(f"a-token-for-{name}\n")
        (tmp_path / name).chmod(0o600)
    path.write_text(text.replace("/etc/mcp-proxy/", f"{tmp_path}/").replace("/run/secrets/", f"{tmp_path}/"))
    path.chmod(0o600)
    names = ("TEAM_TOKEN", "SEARCH_TOKEN", "SEARCH_TOKEN_2", "SEARCH_TOKEN_B", "WIKI_KEY", "PROXY_USER", "PROXY_PASSWORD")
    env = environment(CREDENTIALS_DIRECTORY=str(tmp_path), **{name: f"a-token-for-{name.lower()}" for name in names})
    done = subprocess.run(
        [binary(), "check", "--config", path], capture_output=True, text=True, timeout=30, env=env, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error:" not in done.stdout and "[variable-unset]" not in done.stdout and "a-token-for" not in done.stdout


def no_proxy_rows():
    """The rows of the table of NO_PROXY: entries, URLs that they match, and URLs that they do not."""
    table = (ROOT / "docs" / "OUTBOUND-PROXIES.md").read_text().partition("### `NO_PROXY`")[2].partition("| entry |")[2]
    for line in table.partition("\n\n")[0].splitlines()[2:]:
        entries, matching, other = (re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split(" | "))
        yield pytest.param(",".join(entries), matching or ["https://any.example"], other, id=entries[0])


@pytest.mark.parametrize("entries,matching,other", list(no_proxy_rows()))
def test_table_of_no_proxy(entries, matching, other):
    """What the table says of an entry is what the program does."""
    env = environment(ALL_PROXY="proxy.example:1", NO_PROXY=entries)
    for targets, wanted in ((matching, "direct"), (other, "through http://proxy.example:1")):
        for target in targets:
            url = target if "://" in target else f"https://{target}"
            argv = [binary(), "explain", "proxy", url]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=env, check=False)
            assert done.stdout.splitlines()[:1] == [f"{done.stdout.partition(': ')[0]}: {wanted}"], done


def anchors(page):
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_of_the_documentation_lead_somewhere():
    """A page that is named exists, and so does the heading."""
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", page.read_text()):
            found = page.parent / target if target else page
            assert found.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(found), f"{page.name}: {target}#{anchor}"


def test_causes_are_documented():
    """Every word that says why a server is not usable stands in the table of causes, and no cause of an error is outside
    the list but those that say nothing of a server's state."""
    listed = (ROOT / "Sources/GatewaySession/UpstreamCause.swift").read_text()
    cases = re.findall(r'^        case (\w+)(?: = "([\w.]+)")?$', listed, re.M)
    codes = {word or case for case, word in cases}
    table = (ROOT / "docs/ERRORS.md").read_text().partition("### Causes")[2].partition("The log has")[0]
    told = set(re.findall(r"`([\w.…]+)`", table))
    assert len(codes) > 40 and {code for code in codes if code not in told and not code.startswith("proxy.")} == set()
    of_calls = {
        "buffered_bytes", "children", "draining", "in_flight", "initialize_too_large", "no_session", "no_such_slot", "not_probed", "queue",
        "sse_no_response", "sse_truncated", "stdin_full", "subscriptions",
    }  # fmt: skip
    sources = [path.read_text() for path in (ROOT / "Sources/GatewayRuntime").rglob("*.swift")]
    used = {cause for source in sources for cause in re.findall(r'cause: "([a-z_]+)"', source)}
    assert used - codes - of_calls == set(), "in neither list: is it the state of a server (UpstreamCause) or of a call (here)?"
