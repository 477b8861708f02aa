"""A Prometheus that is asked: HTTP within bounds, answers checked, every failure one line without a password."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from prober.printable import printable

TIMEOUT_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 10.0
BODY_MAX: Final = 64 * 1024 * 1024
SECRET_MAX: Final = 65_536
_TEXT_MAX: Final = 200


class PrometheusError(Exception):
    """It could not be asked, or gave no answer that could be used; the text is one line."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series of an answer: its labels, and (Unix time, value) in order."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Access:
    """Where a Prometheus is and how it lets us in. `shown` has no password and is what messages name."""

    url: str
    shown: str
    headers: Mapping[str, str]


def access(
    url: str,
    *,
    basic_auth_file: Path | None = None,
    bearer_token_file: Path | None = None,
    option: str = "--prometheus",
) -> Access:
    """The access that a URL (perhaps `https://user:password@host/prefix`) and files give. Raises PrometheusError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PrometheusError(f"{option}: not a URL; write it like http://localhost:9090") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PrometheusError(f"{option}: not a URL of http or https; write it like http://localhost:9090")
    if parts.query or parts.fragment:
        raise PrometheusError(f"{option}: has a query or a fragment; write the address of the server alone")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    plain = urlunsplit((parts.scheme, host if port is None else f"{host}:{port}", parts.path.rstrip("/"), "", ""))
    ways = [parts.username is not None, basic_auth_file is not None, bearer_token_file is not None]
    if sum(ways) > 1:
        raise PrometheusError(
            "name one way to log in: a user in the URL, --basic-auth-file or --bearer-token-file, not several"
        )
    headers: dict[str, str] = {}
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        headers["Authorization"] = _basic(user, password)
    elif basic_auth_file is not None:
        user, colon, password = _secret(basic_auth_file).partition(":")
        if not colon:
            raise PrometheusError(f"{printable(str(basic_auth_file))}: write user:password on one line")
        headers["Authorization"] = _basic(user, password)
    elif bearer_token_file is not None:
        headers["Authorization"] = f"Bearer {_secret(bearer_token_file)}"
    return Access(plain, printable(plain), headers)


def _basic(user: str, password: str) -> str:
    """RFC 7617."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _secret(file: Path) -> str:
    where = printable(str(file))
    try:
        with file.open("rb") as opened:
            text = opened.read(SECRET_MAX + 1)
    except OSError as error:
        raise PrometheusError(f"{where}: cannot be read ({error.strerror})") from None
    secret = text.decode(errors="replace").strip()
    if not secret:
        raise PrometheusError(f"{where}: is empty; it must hold one line, the secret")
    if len(secret.splitlines()) > 1:
        raise PrometheusError(f"{where}: holds several lines; it must hold one, the secret")
    if not secret.isprintable() or "\N{REPLACEMENT CHARACTER}" in secret or len(text) > SECRET_MAX:
        raise PrometheusError(f"{where}: holds no text that can be a secret; it must hold one line, the secret")
    return secret


class Prometheus:
    """A session with one server. An async context manager."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(
            headers={**self._access.headers, "User-Agent": "prober"},
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._session.close()

    async def instant(self, query: str, at: float) -> list[Series]:
        """What the query gives at a moment. Raises PrometheusError."""
        return await self._ask("query", {"query": query, "time": f"{at:.3f}"})

    async def over(self, query: str, begin: float, end: float, step: float) -> list[Series]:
        """What it gives at each step from `begin` to `end`. Raises PrometheusError."""
        arguments = {"query": query, "start": f"{begin:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return await self._ask("query_range", arguments)

    async def _ask(self, what: str, arguments: dict[str, str]) -> list[Series]:
        shown = self._access.shown
        try:
            async with self._session.post(
                f"{self._access.url}/api/v1/{what}", data=arguments, allow_redirects=False
            ) as response:
                body = await _bounded(response.content, shown)
                status = response.status
        except TimeoutError:
            raise PrometheusError(f"{shown}: no answer within {TIMEOUT_SECONDS:.0f} s") from None
        except aiohttp.ClientError as error:
            raise PrometheusError(f"{shown}: {_short(error)}") from None
        except (OSError, ValueError) as error:  # names and certificates that the libraries refuse
            raise PrometheusError(f"{shown}: {_short(error)}") from None
        if status in (401, 403):
            raise PrometheusError(f"{shown}: answers {status}; give --basic-auth-file or --bearer-token-file")
        if 300 <= status < 400:
            raise PrometheusError(f"{shown}: answers {status} (elsewhere); name the address that it stands at")
        if status in (429, 502, 503, 504):
            raise PrometheusError(f"{shown}: answers {status}: it is starting, or has too much to do; try again later")
        return await asyncio.to_thread(_series, body, status, shown)


async def _bounded(content: aiohttp.StreamReader, shown: str) -> bytes:
    pieces, size = [], 0
    async for piece in content.iter_any():
        size += len(piece)
        if size > BODY_MAX:
            raise PrometheusError(f"{shown}: the answer is longer than 64 MiB; ask for less: --since, --scope, --name")
        pieces.append(piece)
    return b"".join(pieces)


def _short(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot be reached ({printable(error.os_error.strerror or str(error.os_error))[:_TEXT_MAX]})"
    return printable(str(error))[:_TEXT_MAX] or type(error).__name__


def _series(body: bytes, status: int, shown: str) -> list[Series]:
    try:
        answer = json.loads(body)
        if not isinstance(answer, dict) or "status" not in answer:
            raise TypeError
        if answer["status"] != "success":
            reason = printable(str(answer.get("error", "")))[:_TEXT_MAX]
            raise PrometheusError(f"{shown}: refuses the query: {reason}")
        return [_one(found) for found in answer["data"]["result"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise PrometheusError(f"{shown}: answers {status}, but not as Prometheus does; is that its address?") from None


def _one(found: Any) -> Series:
    labels = {str(name): str(value) for name, value in found["metric"].items()}
    samples = found["values"] if "values" in found else [found["value"]]
    kept = ((float(at), float(value)) for at, value in samples)
    return Series(labels, tuple((at, value) for at, value in kept if isfinite(value) and isfinite(at)))
