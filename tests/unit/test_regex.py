"""Regular expressions: RE2's, safe on any text, silent on stderr."""

from __future__ import annotations

import pickle
import time

import pytest
from pydantic import BaseModel, ValidationError

from prober.regex import REGEX_LENGTH_MAX, Regex


class Expecting(BaseModel):
    body: Regex


def test_it_searches_text_and_bytes() -> None:
    regex = Regex("KCNA|조선중앙통신")
    assert regex.search("... 조선중앙통신 ...")
    assert regex.search("조선중앙통신".encode())
    assert not regex.search("중앙")
    assert not regex.search(b"")


def test_bytes_that_are_not_utf8_are_searched_all_the_same() -> None:
    assert Regex("KCNA").search(b"\xff\xfe KCNA \xc3")
    assert Regex("KCNA").search("\ud800 KCNA")  # a lone surrogate, as a broken page may decode to


def test_it_is_its_pattern() -> None:
    assert Regex("a+") == Regex("a+")
    assert Regex("a+") != Regex("a*")
    assert Regex("a+") != "a+"
    assert len({Regex("a+"), Regex("a+"), Regex("b")}) == 2
    assert str(Regex("a+")) == "a+"
    assert repr(Regex("a+")) == "Regex('a+')"
    assert pickle.loads(pickle.dumps(Regex("a+"))) == Regex("a+")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a(", "missing ): a("),
        ("[z-a]", "invalid character class range: z-a"),
        ("(?=x)", "invalid perl operator: (?="),
        ("(a)\\1", "invalid escape sequence: \\1"),
    ],
)
def test_a_bad_pattern_is_refused_with_re2s_reason(
    pattern: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="not a valid regular expression") as caught:
        Regex(pattern)
    assert f"({reason}); correct it" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_pattern_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        Regex("\ud800")
    with pytest.raises(ValueError, match="shorten it to 10000"):
        Regex("x" * (REGEX_LENGTH_MAX + 1))


def test_the_reason_stays_short() -> None:
    with pytest.raises(ValueError, match="missing") as caught:
        Regex("(" + "x\n" * 4000)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_a_hostile_text_takes_linear_time() -> None:
    """Python's re needs longer than the universe's age for this one."""
    started = time.perf_counter()
    assert not Regex("^(a+)+$").search("a" * 50_000 + "b")
    assert time.perf_counter() - started < 5


def test_a_field_takes_a_text() -> None:
    assert Expecting.model_validate({"body": "a+"}).body.search("caat")
    assert Expecting.model_validate_json('{"body": "a+"}').body == Regex("a+")
    assert Expecting(body=Regex("a")).model_dump(mode="json") == {"body": "a"}
    assert Expecting.model_json_schema()["properties"]["body"]["type"] == "string"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "not a regular expression; write it as a string in quotes"),
        ("a(", "not a valid regular expression (missing ): a(); correct it"),
    ],
)
def test_a_field_refuses_what_is_none(value: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Expecting.model_validate({"body": value})
    (error,) = caught.value.errors()
    assert error["type"] == "regex"
    assert error["msg"].startswith(message)
