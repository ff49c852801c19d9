# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The examples in the documentation are what they say they are."""

import re
import subprocess

import pytest
from harness.gateway import binary
from harness.processes import ROOT, environment

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATIONS = [
    pytest.param(text, id=f"{page.name}-{index}")
    for page in PAGES
    for index, text in enumerate(re.findall(r"^```jsonc\n(.*?)^```", page.read_text(), re.S | re.M))
] + [pytest.param(path.read_text(), id=path.name) for path in sorted((ROOT / "examples").glob("*.json"))]


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_example_configuration_loads(tmp_path, text):
    """Every configuration that a reader can copy loads, and only a missing chmod is worth a warning."""
    path = tmp_path / "config.json"
    path.write_text(text)
    path.chmod(0o600)
    env = environment(TEAM_TOKEN="a-token-for-the-team", SEARCH_TOKEN="a-token-for-the-search", SEARCH_TOKEN_2="a-token-for-the-search-2")
    done = subprocess.run(
        [binary(), "check", "--config", path], capture_output=True, text=True, timeout=30, env=env, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error:" not in done.stdout and "a-token-for" not in done.stdout


def test_links_of_the_documentation_lead_somewhere():
    """A page that is named exists."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
