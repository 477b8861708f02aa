"""All servers of the lab. Their addresses and ports are fixed: the lab is a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import servers
from tests.blackbox import dns_scripts, http_scripts, tcp_scripts
from tests.lab import Namespace, Process, require_program
from tests.streams import Script

HTTP, PROXY = 8080, 3128
TLS_SITES = {  # port -> certificate; each answers 200 over HTTP/2 and HTTP/1.1
    8443: "good",
    8444: "expired",
    8445: "self-signed",
    8446: "elsewhere",
    8447: "chain",
    8448: "broken-chain",
    8449: "odd",
    8455: "name-only",
    8456: "future",
    8457: "wild",
    8458: "no-server",
}
TLS12, CLIENT_CERTIFICATE, CLIENTS_CHOICE, HTTP1_TLS, TLS_REDIRECT = 8450, 8451, 8452, 8453, 8454
TLS10, WEAK, HTTP2_PATHS = 8459, 8460, 8461
GRPC = {"serving": 9001, "not-serving": 9002, "unknown": 9003, "unimplemented": 9004}
GRPC_TLS = 9005
DNS, ODD_DNS, DNS_TLS = 5301, 5302, 853

ZONE = """
@ IN SOA ns hostmaster 2026112201 7200 3600 1209600 300
@ IN NS ns
ns IN A 127.0.0.1
www 300 IN A 192.0.2.10
www 300 IN A 192.0.2.11
www 300 IN AAAA 2001:db8::10
mail IN MX 10 www
text IN TXT "one string" "with \\"quotes\\" and \\; more \\\\ and \\200"
alias IN CNAME www
service._tcp IN SRV 1 2 8080 www
caa IN CAA 0 issue "ca.example"
many IN A 192.0.2.1
many IN A 192.0.2.2
many IN A 192.0.2.3
sshfp IN SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef678901234
strange IN TYPE65280 \\# 4 0a000001
naptr IN NAPTR 100 50 "s" "z3950+I2L+N2C" "" _z3950._tcp
ptr IN PTR www
svc IN HTTPS 1 . alpn="h2,h3" port=8443
loc IN LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
hinfo IN HINFO "PC" "Lab OS"
tlsa IN TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ds IN DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
UPPER IN A 192.0.2.99
"""

PROMETHEUS_ZONE = """
@ IN SOA ns hostmaster 2026112299 7200 3600 1209600 300
@ IN NS ns
ns IN A 192.0.2.53
@ 300 IN A 192.0.2.80
www 300 IN A 127.0.0.1
"""

NAMES = {
    "good.example": ("127.0.0.1",),
    "www.good.example": ("127.0.0.1",),
    "both.example": ("127.0.0.1", "::1"),
    "only4.example": ("127.0.0.1",),
    "only6.example": ("::1",),
    "elsewhere.example": ("127.0.0.1",),
    "api.example.com": ("127.0.0.1",),
    "xn--mnchen-3ya.example": ("127.0.0.1",),
    "under_score.example": ("127.0.0.1",),
    "a.b.good.example": ("127.0.0.1",),
}
"""What the lab's resolver knows. Everything else does not exist."""


class Servers:
    """Everything that is probed on loopback. Started with the block, gone after it."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self._namespace, self._directory = namespace, directory
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        directory, namespace = self._directory, self._namespace
        with self._stack:
            scripts = _Scripts(namespace, directory)
            self._stack.enter_context(scripts)
            known = '  local-zone: "example." static\n  local-zone: "example.com." static\n' + "".join(
                f'  local-data: "{name}. 60 IN {"AAAA" if ":" in address else "A"} {address}"\n'
                for name, addresses in NAMES.items()
                for address in addresses
            )
            resolver = servers.unbound(directory / "unbound", {}, port=53, namespace=namespace, extra=known)
            self._stack.enter_context(resolver)
            zones = {"lab.example": ZONE, "prometheus.io": PROMETHEUS_ZONE}
            self._stack.enter_context(servers.nsd(directory / "nsd", zones, port=DNS, namespace=namespace))
            self._stack.enter_context(_nginx(directory, namespace))
            scripts.started.result(10)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()


class _Scripts:
    """The servers that are a few lines of Python, on a loop of their own in a thread that stands in the namespace."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self._namespace, self._directory = namespace, directory
        self._thread = threading.Thread(target=self._run, name="scripts")
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self.started: Future[None] = Future()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    def _run(self) -> None:
        with self._namespace.entered(), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                self.started.set_exception(error)

    async def _serve(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            connections: set[asyncio.Task[None]] = set()

            async def listen(port: int | str, script: Script, tls: str | None = None) -> None:
                async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    task = asyncio.current_task()
                    assert task is not None
                    connections.add(task)
                    try:
                        await script(reader, writer)
                        await writer.drain()
                    # Clients end as they like: that is what is tested. ssl.SSLError is an OSError.
                    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                        pass
                    except asyncio.CancelledError:  # the lab closes; asyncio would complain of a cancelled handler
                        writer.transport.abort()
                    finally:
                        connections.discard(task)
                        writer.close()

                context = self._context(tls) if tls else None
                if isinstance(port, str):
                    await stack.enter_async_context(await asyncio.start_unix_server(handle, port, ssl=context))
                    return
                for host in ("127.0.0.1", "::1"):
                    await stack.enter_async_context(await asyncio.start_server(handle, host, port, ssl=context))

            await listen(HTTP, http_scripts.serve)
            await listen(PROXY, http_scripts.proxy)
            for port, script in TCP.items():
                await listen(port, script)
            good, expired = self._context("good"), self._context("expired")
            await listen(2525, tcp_scripts.smtp(good))
            await listen(2526, tcp_scripts.smtp(expired))
            await listen(1143, tcp_scripts.imap(good))
            await listen(5432, tcp_scripts.postgres(good))
            await listen(5433, tcp_scripts.postgres(None))
            await listen(5671, tcp_scripts.says(b"AMQP\x00\x00\x09\x01\n", hold=True), "good")
            await listen(str(self._directory / "ping.sock"), tcp_scripts.ping)
            await listen(str(self._directory / "tls.sock"), tcp_scripts.says(b"hello\n", hold=True), "good")
            await listen(ODD_DNS, dns_scripts.tcp)
            await listen(DNS_TLS, dns_scripts.tcp, "good")
            loop = asyncio.get_running_loop()
            udp, _ = await loop.create_datagram_endpoint(dns_scripts.Udp, ("127.0.0.1", ODD_DNS))
            stack.callback(udp.close)
            self.started.set_result(None)
            await self._over.wait()
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    def _context(self, certificate: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._directory / f"{certificate}.pem")
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        return context


TCP: dict[int, Script] = {
    7001: tcp_scripts.says(b"SSH-2.0-lab_1.0\r\n", hold=True),
    7002: tcp_scripts.says(b"one\r\ntwo\r\nthree: 42 apples\r\n"),
    7003: tcp_scripts.silent,
    7004: tcp_scripts.says(),
    7005: tcp_scripts.aborts,
    7006: tcp_scripts.slow,
    7007: tcp_scripts.echo,
    7008: tcp_scripts.irc,
    7009: tcp_scripts.ping,
    7010: tcp_scripts.says(b"no line feed at the end"),
    7011: tcp_scripts.says(b"x" * 70_000 + b"\nfound\n"),
    7012: tcp_scripts.says(b"caf\xe9 \xff\xfe\n", b"found \xec\xa1\xb0\xec\x84\xa0\n"),
    7013: tcp_scripts.says(b"\x01\x02\x03\x04\x05"),
    7014: tcp_scripts.says(b"\x01\x02\x03", hold=True),
    7015: tcp_scripts.says(b"x" * 65_000 + b" found\n"),
}


def _nginx(directory: Path, namespace: Namespace) -> Process:
    """One nginx for all sites with TLS, HTTP/2 and gRPC."""
    www = directory / "www"
    www.mkdir(exist_ok=True)
    for name, octets in {
        "serving": b"\x00\x00\x00\x00\x02\x08\x01",  # a gRPC frame of a HealthCheckResponse (health.proto)
        "not-serving": b"\x00\x00\x00\x00\x02\x08\x02",
        "unknown": b"\x00\x00\x00\x00\x00",
    }.items():
        (www / name).write_bytes(octets)
    page = 'add_header Access-Control-Allow-Origin "*"; return 200 "Download the latest version here\\n";'
    sites = [_site(port, f"ssl http2 certificate={name}", page) for port, name in TLS_SITES.items()]
    sites.append(_site(TLS12, "ssl http2 certificate=good", f"ssl_protocols TLSv1.2; {page}"))
    asks = f"ssl_client_certificate {directory}/ca.pem; ssl_verify_client on;"
    sites.append(_site(CLIENT_CERTIFICATE, "ssl http2 certificate=good", f"{asks} {page}"))
    sites.append(_site(CLIENTS_CHOICE, "ssl http2 certificate=good", f"ssl_prefer_server_ciphers off; {page}"))
    sites.append(_site(HTTP1_TLS, "ssl certificate=good", page))
    lax = "ssl_ciphers DEFAULT:@SECLEVEL=0;"
    sites.append(_site(TLS10, "ssl certificate=good", f"ssl_protocols TLSv1; {lax} {page}"))
    sites.append(_site(WEAK, "ssl certificate=weak", f"{lax} {page}"))
    away = "return 301 http://127.0.0.1:8080/ok;"
    sites.append(_site(TLS_REDIRECT, "ssl http2 certificate=good", away))
    paths = (
        "location /moved { return 301 /ok; } location /missing { return 404 nothing; } "
        "location /big { gzip on; gzip_types text/plain; gzip_comp_level 1; }"
    )
    (www / "big").write_bytes(b"Download the latest version here\n" * 10_000)
    os.utime(www / "big", (1_000_000_000, 1_000_000_000))  # Last-Modified
    sites.append(_site(HTTP2_PATHS, "ssl http2 certificate=good", f"root {www}; {paths} location / {{ {page} }}"))
    for port, answer in ((9006, "404"), (9007, "503"), (9008, "200 text")):
        sites.append(_site(port, "http2", f"location / {{ return {answer}; }}"))
    for name, port in GRPC.items():
        sites.append(_site(port, "http2", _grpc(directory, name)))
    sites.append(_site(GRPC_TLS, "ssl http2 certificate=good", _grpc(directory, "serving")))
    temporary = "".join(
        f"  {kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr warn;\n"
        f"events {{ worker_connections 256; }}\n"
        f"http {{\n  access_log off;\n  server_tokens off;\n  keepalive_timeout 5;\n{temporary}"
        f"  default_type text/plain;\n  ssl_prefer_server_ciphers on;\n"
        f"  ssl_protocols TLSv1.2 TLSv1.3;\n" + "".join(sites).replace("DIRECTORY", str(directory)) + "}\n"
    )
    command = (require_program("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(config))
    return Process(*command, port=next(iter(TLS_SITES)), namespace=namespace)


def _site(port: int, listen: str, inside: str) -> str:
    listen, _, name = listen.partition("certificate=")
    certificate = f"ssl_certificate DIRECTORY/{name}.pem; ssl_certificate_key DIRECTORY/{name}.pem;" if name else ""
    both = f"listen 127.0.0.1:{port} {listen}; listen [::1]:{port} {listen};"
    return f"  server {{ {both} server_name _; {certificate} {inside} }}\n"


def _grpc(directory: Path, what: str) -> str:
    """A method call is a POST; nginx answers one of a file as the 405 page, whose status is then made 200."""
    if what == "unimplemented":  # the status alone, in the headers ("Trailers-Only")
        return (
            "location / { default_type application/grpc; add_header grpc-status 12 always; "
            "add_header grpc-message nobody always; return 200; }"
        )
    return (
        f"root {directory}/www; error_page 405 =200 /{what}; "
        "location / { default_type application/grpc; add_trailer grpc-status 0 always; try_files $uri /" + what + "; }"
    )
