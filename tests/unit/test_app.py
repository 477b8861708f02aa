"""What the composition root decides by itself."""

from __future__ import annotations

from typing import Literal

import pytest

from prober.app import trusted_references
from prober.config import Config, Settings
from prober.model import Entity, Reference

REFERENCES = tuple(Reference(name, f"AS{number}", ()) for number, name in enumerate(("a", "b", "c")))
Trust = Literal["default"] | tuple[str, ...]


@pytest.mark.parametrize(
    ("trusts", "probed"),
    [
        (["default"], "abc"),
        ([()], ""),
        ([("b",)], "b"),
        ([("b",), ("a", "b")], "ab"),
        ([(), "default"], "abc"),
    ],
)
def test_only_references_that_somebody_trusts_are_probed(trusts: list[Trust], probed: str) -> None:
    entities = tuple(Entity(f"e{number}", references=trust) for number, trust in enumerate(trusts))
    config = Config(Settings(), entities, REFERENCES, ())
    assert "".join(reference.name for reference in trusted_references(config)) == probed
