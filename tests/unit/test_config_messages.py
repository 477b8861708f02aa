"""pydantic's errors in plain words, also those that no kind of probe can cause yet."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from prober.config.messages import known_keys, suggestion, validate
from prober.config.parse import parse_document
from prober.config.problems import Problem, in_order, key_path, listed, one_line
from prober.config.types import FileModel


class Inner(FileModel):
    alpha: int = 0
    beta: int = Field(default=0, alias="be-ta")


class Outer(FileModel):
    share: Annotated[float, Field(lt=1)] = 0.0
    words: list[str] = []  # noqa: RUF012
    few: Annotated[tuple[int, ...], Field(max_length=2)] = ()
    either: bool | Inner | None = None
    numbers: frozenset[int] = frozenset()
    named: dict[str, Inner] = {}  # noqa: RUF012
    several: tuple[Inner, ...] = ()
    mode: Literal["x"] = "x"


def messages(text: str) -> list[str]:
    document = parse_document("f.yml", text.encode())
    problems: list[Problem] = []
    validate(Outer, document.root, document, (), problems)
    return [f"{problem.key}: {problem.message}" for problem in problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("share: 1", "share: must be less than 1; write a smaller value"),
        ("share: 1000000000", "share: must be less than 1; write a smaller value"),
        ("words: a", 'words: must be a list, not text; put it in brackets: ["a"]'),
        ("few: [1, 2, 3]", "few: must have at most 2 items; remove some"),
        ("mode: y", 'mode: must be "x"; write one of these'),
        ("either: 1", "either: must be true or false or a mapping, not the number 1; write a value of that type"),
        ("either: {alpah: 1}", 'either.alpah: unknown key; did you mean "alpha"?'),
        ("named: {n: {alpah: 1}}", 'named.n.alpah: unknown key; did you mean "alpha"?'),
        ("several: [{}, {gamma: 1}]", "several[1].gamma: unknown key; known here: alpha, be-ta"),
        ("several: [{be-ta: x}]", "several[0].be-ta: must be a whole number, not text; write digits without quotes"),
        (
            "named: {'a.b': {alpha: x}}",
            'named["a.b"].alpha: must be a whole number, not text; write digits without quotes',
        ),
    ],
)
def test_message(text: str, message: str) -> None:
    assert messages(text) == [message]


def test_an_error_that_nobody_translated_does_not_leak() -> None:
    (message,) = messages("numbers: 5")
    assert message == "numbers: not accepted here (frozen set type); see the schema that prober prints"


def test_the_keys_of_nested_mappings_are_known() -> None:
    assert known_keys(Outer, ("either",)) == {"alpha", "be-ta"}
    assert known_keys(Outer, ("several", 3)) == {"alpha", "be-ta"}
    assert known_keys(Outer, ("share",)) == set()


def test_suggestions() -> None:
    assert suggestion("adress", ["address", "family"]) == 'did you mean "address"?'
    assert suggestion("ADDRESS", ["address", "family"]) == 'did you mean "address"?'
    assert suggestion("x", ["b", "a"]) == "known here: a, b"
    assert suggestion("x", []) == "remove it"
    assert suggestion("x", map(str, range(1000))).endswith(", ...")
    assert suggestion("x" * 10**6, ["address"]) == "known here: address"


def test_texts_of_problems() -> None:
    assert key_path(("targets", 3, "checks", 0)) == "targets[3].checks[0]"
    assert key_path((0, "a b", "c")) == '[0]["a b"].c'
    assert key_path(("", "x" * 70)) == f'[""]["{"x" * 60}..."]'
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"], "and") == "a, b and c"
    assert one_line("a\nb\x1b[31m\u2028한국어") == "a\\nb\\u001b[31m\\u2028한국어"
    assert len(one_line("x" * 10_000)) == 600
    assert str(Problem("f.yml", 3, "a.b", "wrong; mend it", "x")) == "f.yml:3: a.b: wrong; mend it"
    assert str(Problem("f.yml", 0, "", "wrong; mend it", "x")) == "f.yml: wrong; mend it"


def test_problems_are_sorted_by_file_as_met_then_line_without_repetition() -> None:
    b2, b1, a1 = (Problem(*place, "", "m", "c") for place in (("b", 2), ("b", 1), ("a", 1)))
    assert in_order([b2, a1, b1, b2]) == [b1, b2, a1]
