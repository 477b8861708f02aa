"""Durations: what is accepted, what is refused and with which words."""

from __future__ import annotations

import re
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from prober.duration import DURATION_PATTERN, Duration, format_duration, parse_duration


class Timed(BaseModel):
    wait: Annotated[Duration, Field(gt=0, le=60)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d", 172_800.0),
        ("1m500ms", 60.5),
        ("1d2h3m4s5ms", 93_784.005),
    ],
)
def test_durations_count_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "30", "30 s", "1.5s", "-1s", "+1s", "s", "1s1m", "1s1s", "1w", "1S", "30s\n", "1m 5s", "١s", "1e3s"],
)
def test_anything_else_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; (write it like 500ms|give it a unit: write 30s)"):
        parse_duration(text)


def test_a_long_text_is_not_repeated_in_full() -> None:
    with pytest.raises(ValueError, match="is not a duration") as caught:
        parse_duration("x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.5, "500ms"), (90, "1m30s"), (5400, "1h30m"), (86_400, "1d"), (0.0001, "0s")]
)
def test_format_is_the_shortest_text(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_what_is_no_duration_is_not_formatted(seconds: float) -> None:
    with pytest.raises(ValueError, match="is not a duration in seconds"):
        format_duration(seconds)


@given(st.integers(min_value=0, max_value=10**12))
def test_parse_undoes_format(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.from_regex(DURATION_PATTERN, fullmatch=True).filter(lambda text: text.isascii()))
def test_what_the_schema_allows_is_accepted(text: str) -> None:
    assert parse_duration(text.rstrip("\n")) >= 0


@given(st.text(alphabet="0123456789dhms .-", max_size=12))
def test_the_schema_and_the_parser_agree(text: str) -> None:
    allowed = re.search(DURATION_PATTERN, text) is not None
    try:
        parse_duration(text)
    except ValueError:
        assert not allowed
    else:
        assert allowed


def test_a_field_takes_a_text_and_holds_seconds() -> None:
    assert Timed.model_validate({"wait": "30s"}).wait == 30.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (30, "a number without a unit; give it a unit: write 30s if it counts seconds"),
        (1.5, "a number without a unit; give it a unit: write 1s500ms if it counts seconds"),
        (-1, "a number without a unit; write it like 500ms, 30s, 5m, 1h30m or 2d"),
        (10**400, "a number without a unit; write it like 500ms, 30s, 5m, 1h30m or 2d"),
        (True, "not a duration; write it like 500ms, 30s, 5m, 1h30m or 2d"),
        (None, "not a duration; write it like 500ms, 30s, 5m, 1h30m or 2d"),
    ],
)
def test_a_field_refuses_anything_but_text(value: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Timed.model_validate({"wait": value})
    (error,) = caught.value.errors()
    assert (error["type"], error["msg"]) == ("duration", message)


@pytest.mark.parametrize(("text", "bound"), [("0s", "greater_than"), ("61s", "less_than_equal")])
def test_a_field_has_bounds(text: str, bound: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Timed.model_validate({"wait": text})
    assert caught.value.errors()[0]["type"] == bound


def test_the_schema_says_how_to_write_it() -> None:
    schema = Timed.model_json_schema()["properties"]["wait"]
    assert schema["type"] == "string"
    assert schema["pattern"] == DURATION_PATTERN
