"""An HTTP server of paths that each do one thing, octet by octet: no Date header, nothing that differs between runs."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib

SLOW = 0.4
"""How long the slow paths wait, in seconds."""

PAGE = b"Download the latest version here\n"
JSON = b'{"foo": "bar", "baz": "qux", "n": 3, "f": 1.5, "none": null, "list": [1, 2, 3], "deep": {"x": [{"y": true}]}}'

_HEAD = re.compile(rb"([A-Z]+) (.+?) HTTP/1\.[01]\r\n(.*?)\r\n\r\n", re.DOTALL)


def answer(body: bytes, status: str = "200 OK", *headers: str, version: str = "1.1") -> bytes:
    """A whole answer with its length."""
    lines = [f"HTTP/{version} {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def _redirect(where: str, status: int = 302, *headers: str) -> bytes:
    return answer(b"this way\n", f"{status} Found", f"Location: {where}", *headers)


def _chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


_OK = "HTTP/1.1 200 OK\r\n"
_CHUNKED = (_OK + "Transfer-Encoding: chunked\r\n\r\n").encode()
_RAW_DEFLATE = zlib.compressobj(wbits=-15)

FIXED: dict[str, bytes] = {
    "/": answer(PAGE, "200 OK", "Access-Control-Allow-Origin: *"),
    "/ok": answer(PAGE, "200 OK", "Access-Control-Allow-Origin: *"),
    "/created": answer(b"made", "201 Created"),
    "/no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/not-modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "/moved": _redirect("/ok", 301),
    "/see-other": _redirect("/echo", 303),
    "/temporary": _redirect("/echo", 307),
    "/permanent": _redirect("/echo", 308),
    "/no-location": answer(b"where?", "302 Found"),
    "/loop": _redirect("/loop"),
    "/to-name": _redirect("http://www.good.example:8080/ok"),
    "/to-nowhere": _redirect("http://nowhere.example:8080/ok"),
    "/to-refused": _redirect("http://127.0.0.1:8099/"),
    "/to-tls": _redirect("https://good.example:8443/"),
    "/to-wrong-tls": _redirect("https://127.0.0.1:8446/"),
    "/to-ftp": _redirect("ftp://127.0.0.1/"),
    "/to-slow": _redirect("/slow"),
    "/to-echo": _redirect("http://www.good.example:8080/echo"),
    "/to-echo-here": _redirect("http://127.0.0.1:8080/echo"),
    "/to-page": _redirect("ok"),
    "/to-query": _redirect("?x=1"),
    "/to-host": _redirect("//www.good.example:8080/ok"),
    "/to-root": _redirect("http://127.0.0.1:8080"),
    "/to-space": _redirect("/target?a b"),
    "/to-latin": _redirect("/target?caf\xe9"),
    "/to-fragment": _redirect("/target#part"),
    "/to-nothing": _redirect(""),
    "/to-nonsense": _redirect("http://[::1/"),
    "/choices": _redirect("/ok", 300),
    "/use-proxy": _redirect("/ok", 305),
    "/set-cookie": _redirect("/needs-cookie", 302, "Set-Cookie: a=1; Path=/", "Set-Cookie: b=two"),
    "/missing": answer(b"no such page", "404 Not Found"),
    "/unauthorized": answer(b"who?", "401 Unauthorized", 'WWW-Authenticate: Basic realm="lab"'),
    "/error": answer(b"Could not connect to database", "500 Internal Server Error"),
    "/database": answer(b"<p>Could not connect to database</p> Download the latest version here"),
    "/odd-status": answer(b"", "299 Quite"),
    "/status-999": answer(b"", "999 Beyond"),
    "/no-reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "/http10": answer(b"old", version="1.0"),
    "/until-close": (_OK + "\r\n").encode() + b"x" * 100,
    "/chunked": _CHUNKED + _chunked(b"some ", b"thing", b""),
    "/trailers": _CHUNKED + b"4\r\nbody\r\n0\r\nX-After: yes\r\n\r\n",
    "/early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(b"after all"),
    "/gzip": answer(gzip.compress(PAGE * 100, mtime=0), "200 OK", "Content-Encoding: gzip"),
    "/deflate": answer(_RAW_DEFLATE.compress(PAGE * 100) + _RAW_DEFLATE.flush(), "200 OK", "Content-Encoding: deflate"),
    "/zlib": answer(zlib.compress(PAGE * 100), "200 OK", "Content-Encoding: deflate"),
    "/not-gzip": answer(PAGE, "200 OK", "Content-Encoding: gzip"),
    "/short-gzip": answer(gzip.compress(PAGE * 100, mtime=0)[:-12], "200 OK", "Content-Encoding: gzip"),
    "/two-gzips": answer(gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0)),
    "/big": answer(b"x" * 300_000),
    "/cut": (_OK + "Content-Length: 100\r\n\r\n").encode() + b"x" * 50,
    "/cut-match": (_OK + "Content-Length: 100\r\n\r\n").encode() + PAGE,
    "/cut-chunked": _CHUNKED + b"64\r\n" + b"x" * 50,
    "/too-long": (_OK + "Content-Length: 5\r\n\r\n").encode() + b"x" * 50,
    "/garbage": b"SSH-2.0-lab\r\n\r\n",
    "/nothing": b"",
    "/half-head": (_OK + "Content-Length: 10\r\nX-Ha").encode(),
    "/bad-header": (_OK + "Content-Length: 2\r\nno colon here\r\n\r\nok").encode(),
    "/bad-length": (_OK + "Content-Length: many\r\n\r\nok").encode(),
    "/two-lengths": (_OK + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk").encode(),
    "/headers": answer(
        b"see above",
        "200 OK",
        "Set-Cookie: a=1",
        "Set-Cookie: session=2",
        "X-Words: one, two",
        "x-lower: yes",
        "X-Empty:",
        "X-Latin: caf\xe9",
    ),
    "/long-header": answer(b"ok", "200 OK", "X-Long: " + "x" * 20_000),
    "/many-headers": answer(b"ok", "200 OK", *(f"X-{number}: {number}" for number in range(300))),
    "/modified": answer(b"old page", "200 OK", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"),
    "/modified-rfc850": answer(b"old page", "200 OK", "Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT"),
    "/modified-asctime": answer(b"old page", "200 OK", "Last-Modified: Sun Nov  6 08:49:37 1994"),
    "/modified-badly": answer(b"old page", "200 OK", "Last-Modified: yesterday"),
    "/json": answer(JSON, "200 OK", "Content-Type: application/json"),
    "/json-list": answer(b"[1, 2]", "200 OK", "Content-Type: application/json"),
    "/json-broken": answer(b'{"foo": ', "200 OK", "Content-Type: application/json"),
    "/json-more": answer(b'{"foo": "bar"} and more'),
    "/json-missing": answer(b'{"foo": "nobar"}', "404 Not Found"),
    "/korean": answer("조선중앙통신".encode()),
    "/latin1": answer(b"caf\xe9 au lait"),
    "/lines": answer(b"first line\nsecond line\nthird"),
}

_NOT_ECHOED = (b"user-agent:", b"host:", b"connection:")
_LARGE = {"/huge": 30_000_000, "/flood": 70_000_000}  # octets


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, one answer, and the connection is closed."""
    head = _HEAD.match(await reader.readuntil(b"\r\n\r\n"))
    if head is None:
        return
    method, (path, _, _) = head[1].decode(), head[2].decode("latin-1").partition("?")
    headers = sorted(head[3].split(b"\r\n"), key=bytes.lower)
    lengths = [line.split(b":")[1] for line in headers if line.lower().startswith(b"content-length:")]
    body = await reader.readexactly(int(lengths[0])) if lengths else b""
    chunked = any(line.lower().startswith(b"transfer-encoding:") for line in headers)
    if chunked:
        body = await reader.readuntil(b"0\r\n\r\n")
    if head[2] == b"/to-query?x=1":
        writer.write(answer(PAGE))
    elif path in FIXED:
        said = FIXED[path]
        writer.write(said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" and said else said)
    elif path.startswith("/chain/"):
        left = int(path.removeprefix("/chain/"))
        writer.write(_redirect(f"/chain/{left - 1}" if left else "/ok"))
    elif path == "/echo":
        kept = [line for line in headers if not line.lower().startswith(_NOT_ECHOED)]
        writer.write(answer(b"\n".join([method.encode(), *kept, b"", body])))
    elif path == "/host":
        writer.write(answer(next(line for line in headers if line.lower().startswith(b"host:"))))
    elif path == "/target":
        writer.write(answer(head[2]))
    elif path == "/agent":
        writer.write(answer(next((line for line in headers if line.lower().startswith(b"user-agent:")), b"none")))
    elif path == "/needs-cookie":
        cookies = [line for line in headers if line.lower().startswith(b"cookie:")]
        writer.write(answer(b"\n".join(cookies)) if cookies else answer(b"no cookie", "403 Forbidden"))
    elif path == "/needs-password":
        known = b"Authorization: Basic dXNlcm5hbWU6bXlzZWNyZXQ=" in headers  # username:mysecret
        writer.write(answer(b"welcome") if known else FIXED["/unauthorized"])
    elif path == "/needs-token":
        known = b"Authorization: Bearer lab-token" in headers
        writer.write(answer(b"welcome") if known else FIXED["/unauthorized"])
    elif path == "/token":  # the token endpoint of OAuth 2.0 (RFC 6749, 4.4)
        grant = b"grant_type=client_credentials" in body
        token = b'{"access_token": "lab-token", "token_type": "Bearer", "expires_in": 3600}'
        json = "Content-Type: application/json"
        writer.write(answer(token, "200 OK", json) if grant else answer(b"{}", "400 Bad Request", json))
    elif path in _LARGE:
        size = _LARGE[path]
        writer.write((_OK + f"Content-Length: {size + len(PAGE)}\r\n\r\n").encode())
        for _ in range(size // 1_000_000):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
        writer.write(PAGE)
    elif path == "/slow":
        await asyncio.sleep(SLOW)
        writer.write(answer(PAGE))
    elif path == "/slow-body":
        writer.write((_OK + f"Content-Length: {len(PAGE)}\r\n\r\n").encode() + PAGE[:5])
        await writer.drain()
        await asyncio.sleep(SLOW)
        writer.write(PAGE[5:])
    elif path == "/silent":
        await asyncio.sleep(30)
    elif path == "/silent-body":
        writer.write((_OK + "Content-Length: 100\r\n\r\n").encode() + b"x")
        await writer.drain()
        await asyncio.sleep(30)
    elif path == "/reset":
        writer.transport.abort()
    else:
        writer.write(FIXED["/missing"])


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP proxy that knows every name (all of them are 127.0.0.1), and shows what it was told."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, where, _ = head.split(b" ", 2)
    if method == b"CONNECT":
        if b"refuse" in where:
            writer.write(answer(b"not there", "403 Forbidden"))
            return
        port = int(where.rpartition(b":")[2])
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, back), _copy(there, writer))
        return
    shown = sorted(line for line in head.split(b"\r\n")[1:] if line and not line.lower().startswith(b"user-agent"))
    writer.write(answer(b"through the proxy: " + where + b"\n" + b"\n".join(shown)))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except ConnectionError:
        return
    finally:
        target.close()
