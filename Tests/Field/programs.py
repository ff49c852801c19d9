# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Stdio servers that people run, from PyPI, which start without a network and without an account."""

import dataclasses
from pathlib import Path
from typing import Any

from harness.processes import ROOT

COUNTED = 'echo $$ >>"$0"; exec "$@"'
"""Becomes the program, after it wrote down which process that is."""
STEADY = {"PYTHONHASHSEED": "0"}
"""Some describe a tool by a set of names, in the order of this process."""


@dataclasses.dataclass(frozen=True)
class Program:
    """How a server is started. `{directory}` stands for a directory of its own, which is its home as well."""

    environment: str
    command: str
    arguments: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def entry(self, directory: Path) -> dict[str, Any]:
        """What `mcpServers` says of it; each process that it becomes is a line in `starts` there."""
        directory.mkdir(parents=True, exist_ok=True)
        program = str(ROOT / self.environment / "bin" / self.command)
        arguments = [argument.format(directory=directory) for argument in self.arguments]
        variables = {name: value.format(directory=directory) for name, value in self.variables}
        return {
            "command": "/bin/sh",
            "args": ["-c", COUNTED, str(directory / "starts"), program, *arguments],
            "cwd": str(directory),
            "env": {"HOME": str(directory), "PYTHONDONTWRITEBYTECODE": "1", **STEADY, **variables},
        }


def configured(entry: dict[str, Any]) -> dict[str, Any]:
    """As a configuration says it, where `$$` stands for a dollar."""
    return {**entry, "args": [argument.replace("$", "$$") for argument in entry["args"]]}


def starts(directory: Path) -> list[int]:
    """The processes that were started there, in order."""
    path = directory / "starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def runs(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


NOW, NEW, LAST, OLD = ".venv", ".venvf/servers-2x", ".venvf/servers-1x", ".venvf/servers-old"
NOWHERE = "127.0.0.1"
PROGRAMS = {
    "fetch": Program(NOW, "mcp-server-fetch"),
    "git": Program(NOW, "mcp-server-git"),
    "time": Program(NOW, "mcp-server-time", ("--local-timezone", "Europe/Lisbon")),
    "time, by uv run": Program(
        ".venvu", "uv", ("run", "--no-project", "--no-config", "--offline", f"{ROOT}/{NOW}/bin/mcp-server-time")
    ),
    "excel": Program(NEW, "excel-mcp-server", ("stdio",)),
    "duckduckgo": Program(NEW, "duckduckgo-mcp-server"),
    "aws-documentation": Program(NEW, "awslabs.aws-documentation-mcp-server"),
    "aws-memcached": Program(NEW, "awslabs.memcached-mcp-server"),
    "word": Program(NEW, "word_mcp_server"),
    "wikipedia": Program(NEW, "wikipedia-mcp"),
    "nixos": Program(NEW, "mcp-nixos"),
    "clickhouse": Program(
        NEW,
        "mcp-clickhouse",
        variables=(("CLICKHOUSE_HOST", NOWHERE), ("CLICKHOUSE_USER", "nobody"), ("CLICKHOUSE_PASSWORD", "none")),
    ),
    "sequential-thinking": Program(NEW, "sequential-thinking-mcp"),
    "calculator-fastmcp": Program(NEW, "calculator-mcp-server"),
    "work-notes": Program(NEW, "mcp-sequential-thinking"),
    "sqlite": Program(LAST, "mcp-server-sqlite", ("--db-path", "{directory}/data.db")),
    "duckdb": Program(LAST, "mcp-server-duckdb", ("--db-path", "{directory}/data.duckdb")),
    "calculator": Program(LAST, "mcp-server-calculator"),
    "command-line": Program(LAST, "cli-mcp-server", variables=(("ALLOWED_DIR", "{directory}"),)),
    "powerpoint": Program(LAST, "ppt_mcp_server"),
    "arxiv": Program(LAST, "arxiv-mcp-server", ("--storage-path", "{directory}/papers")),
    "mysql": Program(
        LAST,
        "mysql_mcp_server",
        variables=(("MYSQL_HOST", NOWHERE), ("MYSQL_USER", "nobody"), ("MYSQL_PASSWORD", "none"), ("MYSQL_DATABASE", "none")),
    ),
    "code-index": Program(LAST, "code-index-mcp"),
    "text-editor": Program(LAST, "mcp-text-editor"),
    "shell": Program(LAST, "mcp-shell-server", variables=(("ALLOW_COMMANDS", "ls,cat"),)),
    "timeserver": Program(LAST, "mcp-simple-timeserver"),
    "python": Program(LAST, "mcp-python-interpreter", ("--dir", "{directory}")),
    "alchemy": Program(LAST, "mcp-alchemy", variables=(("DB_URL", "sqlite:///{directory}/data.db"),)),
    "fetch, SDK 1.6": Program(OLD, "mcp-server-fetch"),
    "git, SDK 1.6": Program(OLD, "mcp-server-git"),
    "time, SDK 1.6": Program(OLD, "mcp-server-time", ("--local-timezone", "Europe/Lisbon")),
    "sqlite, SDK 1.6": Program(OLD, "mcp-server-sqlite", ("--db-path", "{directory}/data.db")),
    "calculator, SDK 1.6": Program(OLD, "mcp-server-calculator"),
    "text-editor, SDK 1.6": Program(OLD, "mcp-text-editor"),
    "shell, SDK 1.6": Program(OLD, "mcp-shell-server", variables=(("ALLOW_COMMANDS", "ls,cat"),)),
}
