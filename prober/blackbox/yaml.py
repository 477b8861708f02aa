"""The dialect of YAML that blackbox.yml files are written in: Go's yaml.v3, as far as such files use it.

Unlike our own files, a plain scalar keeps its text (what it means depends on the option that it is for: `body: 1.10` is
text, `yes` may be a boolean), merge keys (`<<: *defaults`) are in use, and so is `!!binary`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from yaml.events import Event, ScalarEvent

from prober.config.document import Map, Seq, Value
from prober.config.parse import Builder
from prober.config.problems import Code

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_SCALAR_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool"))
_BINARY: Final = "tag:yaml.org,2002:binary"
_MERGE: Final = "<<"


class Plain(str):
    """A scalar that stands without quotes."""

    __slots__ = ()


def octets(text: str) -> bytes:
    """The octets of a text from a file: UTF-8, and what `!!binary` put in as it was."""
    return text.encode("utf-8", "surrogateescape")


class BlackboxBuilder(Builder):
    """Builds the data of a blackbox.yml."""

    def scalar(self, event: ScalarEvent, text: str, plain: bool) -> Value:
        if event.tag is None:
            return (None if text in _NULL else Plain(text)) if plain else text
        if event.tag == "!" or event.tag == "tag:yaml.org,2002:str":
            return text
        if event.tag in _SCALAR_TAGS:
            return Plain(text)
        if event.tag == _BINARY:
            try:
                return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "surrogateescape")
            except (binascii.Error, ValueError):
                message = "the text behind !!binary is no base64; correct it"
                raise self.error(event, Code.TAG, message) from None
        raise self.tagged(event)

    def merge_key(self, event: ScalarEvent) -> None:
        """Taken in like any other key; resolved when the mapping is complete."""

    def merge(self, container: Map, event: Event) -> None:
        merged = container.pop_with_line(_MERGE)
        sources = merged if isinstance(merged, Seq) else [merged]
        for source in sources:
            if not isinstance(source, Map):
                raise self.error(event, Code.MERGE_KEY, "<< takes a mapping or a list of them; write <<: *name")
            for key, value in source.items():  # what stands in the mapping itself, or in an earlier source, wins
                if key not in container:
                    container[key] = value
                    container.lines.append(source.line_of(key))
