"""Whatever a configuration file holds, it gives a configuration, or problems with lines: never another exception."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prober.config import SHIPPED, ConfigError, check_files, load_references, load_settings, load_targets
from prober.config.problems import Code

SETTINGS = """
vantage: {name: tokyo, index: 0, of: 3}
listen: 127.0.0.1:9911
data_dir: ./data
targets: [missing.yml]
limits: {packets_per_second: 500, per_prefix_per_second: 2, concurrency: 500}
contact: mailto:noc@example.org
opt_out: [192.0.2.0/24, example.org]
log: {format: json, level: info}
"""
TARGETS = """
entity: example
country: KP
defaults: {interval: 60s, timeout: 5s}
networks: {net: {prefix: 192.0.2.0/24, origin_asn: 64496, transit: [64497]}}
sites: {site: {title: Site}}
references: []
targets:
  - name: a
    site: site
    network: net
    hosted_in: KP
    require: all
    checks:
      - icmp: {address: 192.0.2.1, family: ipv4, packets: 3, packet_interval: 100ms}
        name: ping
        interval: 2m
      - dns: {server: "192.0.2.1:53", query: example.org, type: A, expect: {prefix: [192.0.2.0/24], rcode: [NOERROR]}}
      - http: {url: "http://192.0.2.1/", headers: {X-A: b}, expect: {status: [200, 3xx], body: "a|b"}}
      - tcp: {address: "192.0.2.1:443", tls: {verify: false}}
"""
VALID = [SETTINGS, TARGETS, *((SHIPPED / name).read_text("utf-8") for name in ("north-korea.yml", "references.yml"))]

LOADERS: list[Callable[[Path], object]] = [
    load_settings,
    load_references,
    lambda path: load_targets([path]),
]
OF_THE_WHOLE_FILE = {Code.EMPTY, Code.NOT_FOUND, Code.DIRECTORY, Code.UNREADABLE, Code.FILE_TOO_LARGE, Code.FILE_TWICE}

# What a file is made of, so that mutations hit something that means something.
FRAGMENTS = [
    *(
        "\n",
        " ",
        "  ",
        "\t",
        ": ",
        ":",
        "- ",
        "-",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        '"',
        "#",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
    ),
    *("---\n", "...\n", "| ", "> ", "? ", "@", "%", "\\", "\0", "\x85", "\ufeff", "\U0001f600", "null", "~", "true"),
    *("60", "60s", "-1", "1e999", "9" * 30, "x" * 300, "icmp", "http:", "name: ", "targets", "::1", "1.2.3.4/33", "(?"),
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([*FRAGMENTS, "1.5s", "30s", "a.b", "192.0.2.1", "example.org", "(", "GET", "AS13335", "all"]),
)
keys = st.one_of(st.text(max_size=8), st.sampled_from(["name", "icmp", "http", "checks", "expect", "timeout", "title"]))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "f.yml"


def check_everything(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    for problem in check_files([file]).problems:
        assert str(problem).isprintable()
        assert problem.message
        assert problem.line >= 1 or problem.code in OF_THE_WHOLE_FILE
        assert problem.line <= data.count(b"\n") + data.count(b"\r") + 1
        assert "Input should be" not in problem.message
        assert "see the schema" not in problem.message, "an error of pydantic's that nobody translated"
    for load in LOADERS:
        with suppress(ConfigError):
            load(file)


@st.composite
def mutated_texts(draw: st.DrawFn) -> bytes:
    """A valid file with some places cut out, doubled or replaced."""
    text = draw(st.sampled_from(VALID[:2]) | st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 40)))
        put = draw(
            st.one_of(st.just(""), st.sampled_from(FRAGMENTS), st.text(max_size=5), st.just(text[start:end] * 2))
        )
        text = text[:start] + put + text[end:]
    data = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=3))
    return data


@st.composite
def mutated_trees(draw: st.DrawFn) -> bytes:
    """A valid file in which some values are others, or whose keys are gone, renamed or more."""
    tree: Any = yaml.safe_load(draw(st.sampled_from(VALID[:2]) | st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 5))):
        node = tree
        while True:
            inside = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not inside:
                break
            at = draw(st.sampled_from(inside))
            if isinstance(node[at], dict | list) and draw(st.integers(0, 3)):
                node = node[at]
                continue
            action = draw(st.sampled_from(["replace", "remove", "add"]))
            if action == "replace":
                node[at] = draw(values)
            elif action == "remove":
                del node[at]
            elif isinstance(node, dict):
                node[draw(keys)] = draw(values)
            else:
                node.append(draw(values))
            break
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=mutated_texts())
def test_mutated_text(file: Path, data: bytes) -> None:
    check_everything(file, data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=mutated_trees())
def test_mutated_tree(file: Path, data: bytes) -> None:
    check_everything(file, data)


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=200)
    | values.map(lambda value: yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace"))
)
def test_anything(file: Path, data: bytes) -> None:
    check_everything(file, data)
