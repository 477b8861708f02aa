"""What a module says of itself to a server: credentials and headers, from the file or from files that it names."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Final

from prober.blackbox.http_client_options import BasicAuth, HttpClientOptions, InjectedHeaders
from prober.blackbox.oauth2 import fetch_token
from prober.blackbox.session import Session
from prober.failures import Failure, Operation

FILE_SIZE_MAX: Final = 16 * 2**20

Fields = list[tuple[str, str]]


async def read_file(session: Session, file: str) -> bytes:
    """A file that a module names, read at each probe: what is rotated needs no reload. Raises ProbeFailure (ours)."""
    try:
        return await asyncio.to_thread(_read, Path(file))
    except (OSError, ValueError) as error:
        session.log.error("Unable to read file", file=file, err=error)
        session.attempt.fail(Failure.INTERNAL_ERROR, f"{file}: {error}", Operation.PREPARE)


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(FILE_SIZE_MAX + 1)
    if len(data) > FILE_SIZE_MAX:
        raise ValueError(f"larger than {FILE_SIZE_MAX} octets")
    return data


async def read_text(session: Session, file: str) -> str:
    """A secret in a file of its own, without the white space around it."""
    text = (await read_file(session, file)).decode("utf-8", "surrogateescape").strip()
    if any(ord(c) < 0x20 and c != "\t" for c in text):
        session.attempt.fail(Failure.INTERNAL_ERROR, f"{file} holds more than one line", Operation.PREPARE)
    return text


async def authorization(options: HttpClientOptions, session: Session) -> str:
    """The value of the Authorization header; empty if there is none."""
    if options.basic_auth is not None:
        return await _basic(options.basic_auth, session)
    if options.authorization is not None:
        chosen = options.authorization
        token = chosen.credentials or (
            await read_text(session, chosen.credentials_file) if chosen.credentials_file else ""
        )
        return f"{chosen.type} {token}" if token else ""
    if options.bearer_token or options.bearer_token_file:
        token = options.bearer_token or await read_text(session, options.bearer_token_file)
        return f"Bearer {token}"
    if options.oauth2 is not None:
        secret = options.oauth2.client_secret or (
            await read_text(session, options.oauth2.client_secret_file) if options.oauth2.client_secret_file else ""
        )
        phases = dict(session.attempt.phases)
        try:
            return await fetch_token(options.oauth2, secret, session)
        finally:  # the phases are those of the target's own requests
            session.attempt.phases.clear()
            session.attempt.phases.update(phases)
    return ""


async def _basic(options: BasicAuth, session: Session) -> str:
    username = await read_text(session, options.username_file) if options.username_file else options.username
    password = await read_text(session, options.password_file) if options.password_file else options.password
    pair = f"{username}:{password}".encode("utf-8", "surrogateescape")
    return "Basic " + base64.b64encode(pair).decode()


async def injected(headers: InjectedHeaders | None, session: Session) -> tuple[Fields, Fields]:
    """The headers of `http_headers`, and those of them that are secrets."""
    open_ones: Fields = []
    secret_ones: Fields = []
    for name, header in headers.root.items() if headers is not None else ():
        open_ones += [(name, value) for value in header.values]
        secret_ones += [(name, value) for value in header.secrets]
        secret_ones += [(name, await read_text(session, file)) for file in header.files]
    return open_ones, secret_ones
