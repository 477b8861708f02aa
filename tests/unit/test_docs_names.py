"""What documents name exists: links, commands and options, make's targets, metrics, settings, files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, get_args

import click
import pytest

from docs import generate
from prober.cli import cli
from prober.config import json_schema
from prober.config.schema import SchemaKind
from tests.documents import ROOT, blocks, documents, keys_of

DOCUMENTS: Final = [path for path in documents() if path.parts[0] != "tests"]

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=str)


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def prose_of(path: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


def inline(path: Path) -> list[str]:
    """What stands between backquotes in running text, on one line each."""
    prose = re.sub(r"^    .*$", "", prose_of(path), flags=re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


# links


def slug(heading: str) -> str:
    """A heading's fragment, as GitHub makes it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def fragments(path: Path) -> frozenset[str]:
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose_of(path), flags=re.MULTILINE):
        name = slug(heading)
        found.append(f"{name}-{found.count(name)}" if name in found else name)
    return frozenset(found)


def links(path: Path) -> Iterator[tuple[str, str]]:
    """(file, fragment) of each link that is relative."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(path)):
        if "://" not in link and not link.startswith("mailto:"):
            file, _, fragment = link.partition("#")
            yield file, fragment


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    for file, fragment in links(path):
        target = (ROOT / path).parent / file if file else ROOT / path
        assert target.exists(), f"{path}: {file}"
        if fragment:
            assert target.suffix == ".md", f"{path}: {file}#{fragment}"
            known = fragments(target.resolve().relative_to(ROOT))
            assert fragment in known, f"{path}: {file}#{fragment}"


def test_every_document_is_in_the_index() -> None:
    index = {file for file, _ in links(Path("docs/README.md"))}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index


# commands


def typed(path: Path) -> list[list[str]]:
    """The `prober` commands in the blocks of a document, as arguments."""
    lines = [line for block in blocks(path) for line in block.commands.splitlines()]
    words = [line.partition(" #")[0].partition(" >")[0].partition(" |")[0].strip() for line in lines]
    found = [re.sub(r"^.*\bprober prober ", "prober ", line) for line in words]
    return [
        shlex.split(line)[1:]
        for line in found
        if re.match(r"(?:\.venv/bin/)?prober [a-z]", line) and not line.endswith("\\")
    ]


@every_document
def test_the_commands_are_understood(path: Path) -> None:
    for name, *rest in typed(path):
        with click.Context(cli) as context:
            command = cli.get_command(context, name)
            assert command is not None, f"{path}: prober {name}"
            command.make_context(name, list(rest))


@every_document
def test_the_commands_and_options_in_running_text_exist(path: Path) -> None:
    for code in inline(path):
        match = re.match(r"(?:\.venv/bin/)?prober ([a-z]\w*)(.*)$", code)
        if match is None:
            continue
        command = cli.commands.get(match[1])
        assert command is not None, f"{path}: {code}"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        told = re.findall(r"(?<=\s)--?[a-z][\w-]*", match[2])
        assert set(told) <= known, f"{path}: {code}"


def test_the_readme_shows_every_command() -> None:
    told = {arguments[0] for arguments in typed(Path("README.md"))}
    told |= {match[1] for code in inline(Path("README.md")) if (match := re.match(r"\S*prober ([a-z]+)", code))}
    assert told >= set(cli.commands)


@every_document
def test_make_knows_what_documents_tell_to_make(path: Path) -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    told = set(re.findall(r"(?:`|^    |&& |CI=true )make ([a-z]+)", text_of(path), flags=re.MULTILINE))
    assert told <= known, path


# names


@cache
def words_of_the_code() -> frozenset[str]:
    files = [*(ROOT / "prober").rglob("*.py"), *(ROOT / "deploy").rglob("*.yml")]
    words = {word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))}
    return frozenset(words | set(re.findall(r"^\| `(\w+)`", generate.files()["metrics.md"], flags=re.MULTILINE)))


@every_document
def test_every_metric_exists(path: Path) -> None:
    """Any word that looks like one of our metrics is one, or a setting, or the beginning of some (`prober_probe_`)."""
    known = words_of_the_code()
    for word in set(re.findall(r"(?<![\w/.-])(?:prober|probe)_[a-z_]+\b", text_of(path))):
        whole = re.sub(r"_(bucket|sum|count|total)$", "", word)
        begins = word.endswith("_") and any(one.startswith(word) for one in known)
        assert word in known or whole in known or begins, f"{path}: {word}"


@every_document
def test_every_setting_exists(path: Path) -> None:
    """`section.key` of the settings, wherever it stands."""
    schema = json_schema("settings")
    sections = {
        "vantage": "Vantage", "judgement": "Judgement", "limits": "Limits", "web": "Web",
        "probe_endpoint": "ProbeEndpoint", "log": "Log",
    }  # fmt: skip
    for code in inline(path):
        for section, key in re.findall(r"(?<![\w-])(\w+)\.([a-z_]+)\b", code):
            if section in sections and key not in ("yml", "py", "md", "json"):
                assert key in schema["$defs"][sections[section]]["properties"], f"{path}: {section}.{key}"


OTHERS_KEYS: Final = frozenset(
    [
        "for",
        "dns",
        "enable_ipv6",
        "grpc",
        "prober",
        "starttls",
        "network_mode",
        "global",
        "replacement",
        "receivers",
        "vouched",
    ]
)
"""Keys of other programs' files, and of answers, that stand in running text."""


@every_document
def test_every_key_exists(path: Path) -> None:
    """What stands in running text as `key: ...` is a key of one of our files, or listed as somebody else's."""
    known = {key for kind in get_args(SchemaKind) for key in keys_of(json_schema(kind))}
    for code in inline(path):
        match = re.match(r"([a-z_]+):(?: |$)", code)
        if match is not None:
            assert match[1] in known | OTHERS_KEYS, f"{path}: {code}"


@every_document
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    for name in re.findall(r"`((?:prober|tests|targets|docs|grafana|\.ci)/[\w./-]+\.\w+)`", text_of(path)):
        assert (ROOT / name).exists(), f"{path}: {name}"
