"""What is not printable is seen, and does nothing."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.printable import ELLIPSIS, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("kcna.kp", "kcna.kp"),
        ("조선중앙통신 — 東京, ça", "조선중앙통신 — 東京, ça"),
        ("a b", "a b"),
        ('<b>&"\\', '<b>&"\\'),  # markup is the business of who makes markup
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\0\x07\x08\x0b\x1b[2J\x7f", "\\u0000\\u0007\\u0008\\u000b\\u001b[2J\\u007f"),
        ("\x85\x9b31m\x9d", "\\u0085\\u009b31m\\u009d"),  # C1: a line end and two introducers
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u202agnp\u202e\u2066\u2069\u200f\u061c", "\\u202agnp\\u202e\\u2066\\u2069\\u200f\\u061c"),  # bidirectional
        ("a\u200bb\ufeff\u00ad", "a\\u200bb\\ufeff\\u00ad"),  # invisible
        ("\u00a0\u3000", "\\u00a0\\u3000"),  # blanks that are not the blank
        ("\ud800\udc80", "\\ud800\\udc80"),  # lone surrogates: octets that were no UTF-8, or nobody's character
        ("\U000e0041", "\\udb40\\udc41"),  # a tag, as JSON writes it
        ("\ue000\uffff", "\\ue000\\uffff"),
        ("\U0001f30d", "\U0001f30d"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, f"ab{ELLIPSIS}"),
        ("\x1b", 6, "\\u001b"),
        ("\x1b!", 6, f"\\u001{ELLIPSIS}"),
        ("x" * 10_240, 60, "x" * 59 + ELLIPSIS),
        ("\u202e" * 10_240, 10, f"\\u202e\\u2{ELLIPSIS}"),
    ],
)
def test_it_is_cut_to_a_length(text: str, limit: int, shown: str) -> None:
    assert printable(text, limit) == shown


@given(st.text(), st.none() | st.integers(1, 40))
def test_whatever_it_is(text: str, limit: int | None) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert printable(shown, limit) == shown
    if limit is not None:
        assert len(shown) <= limit


@given(st.text().filter(lambda text: not {'"', "\\"} & set(text)))
def test_within_json_it_means_the_same(text: str) -> None:
    assert json.loads(f'"{printable(text)}"') == text
