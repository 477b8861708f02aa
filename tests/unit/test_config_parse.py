"""YAML into data with lines: the dialect, the lines, and the limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from prober.config import parse
from prober.config.document import Map, Seq
from prober.config.parse import parse_document, read_document, resolve
from prober.config.problems import Code, ConfigError, Problem


def problem_of(data: bytes) -> Problem:
    with pytest.raises(ConfigError) as caught:
        parse_document("f.yml", data)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),  # Norway, which YAML 1.1 takes for false
        ("on", "on"),
        ("22:15", "22:15"),  # which YAML 1.1 takes for 1335
        ("2014-12-22", "2014-12-22"),
        ("010", 10),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("-5", -5),
        ("+5", 5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1e999", "1e999"),  # larger than any float
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("9" * 18, 10**18 - 1),
        ("9" * 5000, "9" * 5000),
        ("1.1.1.1", "1.1.1.1"),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("", None),
        ("~", None),
        ("null", None),
        ("-", "-"),
        (".", "."),
    ],
)
def test_plain_scalars_mean_what_the_core_schema_says(text: str, value: object) -> None:
    result = resolve(text)
    assert (result, type(result)) == (value, type(value))


def test_quoted_scalars_are_text() -> None:
    root = parse_document("f.yml", b"a: '5'\nb: \"true\"\nc: |\n  7\nd: ''\n").root
    assert root == {"a": "5", "b": "true", "c": "7\n", "d": ""}


def test_keys_are_text() -> None:
    assert list(parse_document("f.yml", b"176: a\ntrue: b\n~: c\n").root) == ["176", "true", "~"]


def test_every_key_and_item_has_its_line() -> None:
    document = parse_document(
        "f.yml",
        b"a: 1\nb:\n  - x\n  - c: {d: 1,\n       e: 2}\n    f: |\n      text\n\n  -\n    g: [1,\n 2]\n",
    )
    lines = {
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 1): 4,
        ("b", 1, "c"): 4,
        ("b", 1, "c", "d"): 4,
        ("b", 1, "c", "e"): 5,
        ("b", 1, "f"): 6,
        ("b", 2, "g"): 10,
        ("b", 2, "g", 1): 11,
    }
    assert {path: document.line(path) for path in lines} == lines


def test_what_is_not_there_has_the_line_of_what_is_around_it() -> None:
    document = parse_document("f.yml", b"a: 1\nb:\n  - c: 1\n    d: 2\n")
    assert document.line(("x",)) == 1
    assert document.line(("b", 0, "x")) == 3
    assert document.line(("b", 7)) == 2
    assert document.line(("a", "x", "y")) == 1
    assert document.at(("b", 0, "d")) == 2
    assert document.at(("b", 0, "d", "e")) is None
    assert document.at(("b", 1)) is None


def test_an_alias_is_its_anchors_value() -> None:
    root = parse_document("f.yml", b"a: &x {k: [1]}\nb: *x\nc: &y 5\nd: [*y, *x]\n").root
    assert root == {"a": {"k": [1]}, "b": {"k": [1]}, "c": 5, "d": [5, {"k": [1]}]}
    assert isinstance(root["a"], Map)
    assert isinstance(root["d"], Seq)


def test_aliases_count_as_often_as_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "VALUES_MAX", 22)
    parse_document("f.yml", b"a: &x [1, 2, 3, 4]\nb: [*x, *x]\n")  # 6 + 2 + 5 + 5
    assert problem_of(b"a: &x [1, 2, 3, 4]\nb: [*x, *x, *x]\n").code == Code.TOO_MANY_VALUES


def test_aliases_do_not_hide_depth() -> None:
    levels = parse.DEPTH_MAX // 2 + 1
    nested = "{k: " * levels + "1" + "}" * levels
    around = "{k: " * levels + "*x" + "}" * levels
    assert problem_of(f"a: &x {nested}\nb: {around}\n".encode()).code == Code.TOO_DEEP
    parse_document("f.yml", f"a: &x {nested}\nb: *x\n".encode())


def test_the_deepest_allowed_nesting_is_read() -> None:
    inner = parse.DEPTH_MAX - 1
    parse_document("f.yml", ("a: " + "[" * inner + "]" * inner).encode())
    assert problem_of(("a: " + "[" * (inner + 1) + "]" * (inner + 1)).encode()).code == Code.TOO_DEEP


def test_all_duplicate_keys_are_told_and_the_first_counts() -> None:
    document = parse_document("f.yml", b"a: 1\nb: [{c: 1}, {c: 2, c: 3}]\na: {d: 4, d: 5}\n")
    assert document.root == {"a": 1, "b": [{"c": 1}, {"c": 2}]}
    assert [(problem.line, problem.key) for problem in document.problems] == [(2, "b[1].c"), (3, "a"), (3, "a.d")]


def test_a_byte_order_mark_is_no_text() -> None:
    assert parse_document("f.yml", b"\xef\xbb\xbfa: 1\n").root == {"a": 1}


def test_utf16_is_not_utf8() -> None:
    problem = problem_of("a: 1\n".encode("utf-16"))
    assert (problem.code, problem.line) == (Code.NOT_UTF8, 1)


def test_a_file_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f.yml"
    file.write_bytes(b"a: " + b"x" * (2 * 1024 * 1024 - 3))
    monkeypatch.setattr(parse, "FILE_BYTES_MAX", 2 * 1024 * 1024)
    read_document(file)
    file.write_bytes(b"a: " + b"x" * (2 * 1024 * 1024 - 2))
    with pytest.raises(ConfigError) as caught:
        read_document(file)
    assert str(caught.value) == f"{file}: larger than 2 MiB; split it into several files"


def test_an_endless_file_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "FILE_BYTES_MAX", 1024)
    with pytest.raises(ConfigError, match="larger than"):
        read_document(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["f.yml/inside-a-file", "a\0b", "x" * 300])
def test_what_cannot_be_opened_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "f.yml").touch()
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path / name)
    (problem,) = caught.value.problems
    assert problem.code == Code.UNREADABLE
    assert str(problem).isprintable()
    assert "cannot be read: " in str(problem)
