"""TCP servers that follow a script: greetings, STARTTLS, and things that no client should believe."""

from __future__ import annotations

import asyncio
import ssl

from tests.blackbox.http_scripts import SLOW
from tests.streams import Script


def says(*pieces: bytes, hold: bool = False) -> Script:
    """At once, without being asked; then closes, or holds the connection until the client closes it."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        while hold and await reader.read(65536):
            pass

    return script


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def aborts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(SLOW)
    writer.write(b"SSH-2.0-lab_1.0\r\n")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)


async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if await reader.readline() == b"PING\n":
        writer.write(b"PONG\n")


async def irc(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    nick, user = await reader.readline(), await reader.readline()
    if nick == b"NICK prober\n" and user == b"USER prober prober prober :prober\n":
        writer.write(b":irc NOTICE * :hello\r\nPING :abc123\r\n")
        # The carriage return is part of what `[^ ]+` matched, and comes back.
        if await reader.readline() in (b"PONG abc123\n", b"PONG abc123\r\n"):
            writer.write(b":irc 001 prober :welcome\r\n")


def smtp(context: ssl.SSLContext) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP Lab (ready)\r\n")
        if not (await reader.readline()).startswith(b"EHLO"):
            return
        writer.write(b"250-mail.example\r\n250-STARTTLS\r\n250 HELP\r\n")
        if await reader.readline() != b"STARTTLS\r\n":
            return
        writer.write(b"220 go ahead\r\n")
        await writer.start_tls(context)
        if (await reader.readline()).startswith(b"EHLO"):
            writer.write(b"250-mail.example\r\n250-AUTH PLAIN\r\n250 HELP\r\n")
            await reader.readline()
            writer.write(b"221 bye\r\n")

    return script


def imap(context: ssl.SSLContext) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")
        if await reader.readline() != b". STARTTLS\n":
            return
        writer.write(b". OK begin\r\n")
        await writer.start_tls(context)
        await reader.readline()
        writer.write(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n. OK done\r\n")

    return script


def postgres(context: ssl.SSLContext | None) -> Script:
    """The request for TLS of PostgreSQL's protocol: 8 octets (the original adds a line feed), and one octet back."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(8) != b"\x00\x00\x00\x08\x04\xd2\x16\x2f":
            return
        await reader.read(1)  # the line feed
        if context is None:
            writer.write(b"N")
            return
        writer.write(b"S")
        await writer.start_tls(context)
        await reader.read(1)

    return script
