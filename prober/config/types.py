"""Types of fields that several files share. Each refuses with what is wrong and what to do, and has a JSON schema."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from prober.config.problems import Code, quoted
from prober.duration import Duration

INTERVAL_MIN_SECONDS: Final = 1.0
TIMEOUT_MIN_SECONDS: Final = 0.01
TITLE_LENGTH_MAX: Final = 200

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_COUNTRY_PATTERN: Final = r"^[A-Z]{2}$"


class FileModel(BaseModel):
    """Base of all that is read from a file: unknown keys are refused, nothing is coerced, nothing changes later.

    Its validator is built when it is first used: no command reads all kinds of files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, defer_build=True)


def refuse(code: Code, message: str) -> NoReturn:
    """Raise the error that makes pydantic refuse a value; `message` reaches the reader as it is."""
    raise PydanticCustomError(code.value, "{message}", {"message": message})


def matching(pattern: str, code: Code, remedy: str) -> AfterValidator:
    """Annotation of a text that must match `pattern` as a whole; if it does not, it is refused with `remedy`."""
    expression = re.compile(pattern.removesuffix("$") + r"\Z")

    def check(text: str) -> str:
        if expression.match(text) is None:
            refuse(code, f"{quoted(text)} {remedy}")
        return text

    return AfterValidator(check)


def _title(text: str) -> str:
    if not text.strip() or len(text) > TITLE_LENGTH_MAX or not text.isprintable():
        refuse(
            Code.TITLE, f"a title is one line of 1 to {TITLE_LENGTH_MAX} printable characters; shorten or correct it"
        )
    return text


def _prefix(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        refuse(Code.PREFIX, f"{quoted(text)} is no IP prefix; write it like 175.45.176.0/24 or 2001:db8::/32")
    refuse(Code.PREFIX, f"{quoted(text)} has bits set behind the prefix; write {network}")


def _path(path: Path, info: ValidationInfo) -> Path:
    """A path in a settings file is relative to that file, wherever the agent was started."""
    if "\0" in str(path):
        refuse(Code.FILE_PATH, "no file has such a name; write a path without the character U+0000")
    base: Path = (info.context or {}).get("directory", Path())
    return base / path


def _schema(**keys: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **keys})


Name = Annotated[
    str,
    matching(
        NAME_PATTERN,
        Code.NAME,
        'is no name; use up to 100 of A-Z a-z 0-9 "." "_" "-", a letter or digit first (other text goes into title:)',
    ),
    _schema(pattern=NAME_PATTERN),
]
Title = Annotated[str, AfterValidator(_title), _schema(minLength=1, maxLength=TITLE_LENGTH_MAX)]
Country = Annotated[
    str,
    matching(
        _COUNTRY_PATTERN, Code.COUNTRY, "is no country; write its two capital letters (ISO 3166-1), for example KP"
    ),
    _schema(pattern=_COUNTRY_PATTERN),
]
Prefix = Annotated[str, AfterValidator(_prefix), _schema(examples=["175.45.176.0/24", "2001:db8::/32"])]
Asn = Annotated[int, Field(ge=1, le=2**32 - 1)]
Interval = Annotated[Duration, Field(ge=INTERVAL_MIN_SECONDS)]
Timeout = Annotated[Duration, Field(ge=TIMEOUT_MIN_SECONDS)]
FilePath = Annotated[Path, AfterValidator(_path), _schema(minLength=1)]
