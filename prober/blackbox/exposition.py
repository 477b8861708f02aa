"""The metrics of one probe under blackbox_exporter's names, and their text (Prometheus exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.utils import floatToGoString

LABEL_LENGTH_MAX: Final = 1024
"""Characters of a label's value, all of which come from targets."""


@dataclass(slots=True)
class Family:
    """One metric: its help, and its samples by label values. A metric without labels has the one key ()."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    samples: dict[tuple[str, ...], float] = field(default_factory=dict)

    def set(self, value: float, *label_values: str) -> None:
        """Set the sample with these label values."""
        self.samples[tuple(text[:LABEL_LENGTH_MAX] for text in label_values)] = value

    def add(self, value: float, *label_values: str) -> None:
        """Add to the sample with these label values, which starts at 0."""
        self.set(self.samples.get(label_values, 0.0) + value, *label_values)


class Metrics:
    """What one probe exports. A family that is registered without labels is there with 0 until it is set."""

    def __init__(self) -> None:
        self.families: dict[str, Family] = {}

    def gauge(self, name: str, help_text: str, value: float = 0.0) -> Family:
        """Register a metric without labels (once; again, it is only set)."""
        family = self.families.setdefault(name, Family(name, help_text))
        family.set(value)
        return family

    def vector(self, name: str, help_text: str, labels: tuple[str, ...]) -> Family:
        """Register a metric with labels; it is exported once it has a sample."""
        return self.families.setdefault(name, Family(name, help_text, labels))

    def value(self, name: str, *label_values: str) -> float | None:
        """A sample's value, None if it is not exported."""
        family = self.families.get(name)
        return None if family is None else family.samples.get(label_values)

    def text(self) -> str:
        """All families, sorted by name as the original's are, with their samples sorted by labels."""
        return "".join(line for name in sorted(self.families) for line in _lines(self.families[name]))


def _lines(family: Family) -> Iterator[str]:
    if not family.samples:
        return
    help_text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {family.name} {help_text}\n# TYPE {family.name} gauge\n"
    for values, sample in sorted(family.samples.items()):
        pairs = sorted(zip(family.labels, values, strict=True))
        labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
        yield f"{family.name}{{{labels}}} {_number(sample)}\n" if labels else f"{family.name} {_number(sample)}\n"


def _escaped(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    """As Go prints it: whole numbers without a point, large ones with an exponent."""
    text: str = floatToGoString(abs(value))  # type: ignore[no-untyped-call]
    return ("-" if value < 0 else "") + text.removesuffix(".0")
