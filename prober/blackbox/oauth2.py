"""OAuth 2.0's client credentials grant (RFC 6749 section 4.4): a token for each probe, as the original fetches it."""

from __future__ import annotations

import base64
import json
from typing import Final
from urllib.parse import quote, urlencode

from prober.blackbox.http_client_options import OAuth2
from prober.blackbox.http_hop import Answer, Hop, ask, open_hop
from prober.blackbox.options import IpOptions
from prober.blackbox.session import Session
from prober.failures import Failure, Operation
from prober.net.url import parse_url

ANSWER_SIZE_MAX: Final = 1 << 20
_TOKEN_LENGTH_MAX: Final = 65_536


async def fetch_token(options: OAuth2, secret: str, session: Session) -> str:
    """The value of the Authorization header. Raises ProbeFailure: without a token nothing can be said of the target."""
    form = {"grant_type": "client_credentials", **options.endpoint_params}
    if options.scopes:
        form["scope"] = " ".join(options.scopes)
    # Credentials in the header first; servers that want them in the form say no to that (RFC 6749 section 2.3.1).
    pair = f"{quote(options.client_id, safe='')}:{quote(secret, safe='')}"
    basic = [("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())]
    status, answer = await _post(options, form, basic, session)
    if status in (400, 401):
        with_client = {**form, "client_id": options.client_id, **({"client_secret": secret} if secret else {})}
        status, answer = await _post(options, with_client, [], session)
    if not 200 <= status < 300:
        session.attempt.fail(Failure.UNEXPECTED_REPLY, f"the token's server answered {status}", Operation.PREPARE)
    return _token_in(answer, session)


def _token_in(answer: bytes, session: Session) -> str:
    try:
        parsed = json.loads(answer)
    except (ValueError, RecursionError):
        parsed = None
    token = parsed.get("access_token") if isinstance(parsed, dict) else None
    kind = parsed.get("token_type") if isinstance(parsed, dict) else None
    if not isinstance(token, str) or not token.isprintable() or not 0 < len(token) <= _TOKEN_LENGTH_MAX:
        session.attempt.fail(Failure.MALFORMED, "the token's server gave no access_token", Operation.PREPARE)
    if not isinstance(kind, str) or kind.lower() == "bearer" or not kind.isidentifier():
        kind = "Bearer"
    return f"{kind} {token}"


async def _post(
    options: OAuth2, form: dict[str, str], fields: list[tuple[str, str]], session: Session
) -> tuple[int, bytes]:
    try:
        url = parse_url(options.token_url)
    except ValueError as error:
        session.attempt.fail(Failure.INTERNAL_ERROR, f"token_url: {error}", Operation.PREPARE)
    address = await session.resolve(url.host, IpOptions())
    hop = Hop(
        method="POST",
        url=url,
        host_header=url.authority,
        address=address,
        fields=[
            *fields,
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("User-Agent", session.io.user_agent),
        ],
        body=urlencode(form).encode(),
        tls_config=options.tls_config,
        server_name=url.host,
    )
    connection, proxy = await open_hop(hop, options, session, ("http/1.1",))
    with connection:
        answer = await ask(hop, connection, proxy, session)
        return answer.status, await _whole(answer, session)


async def _whole(answer: Answer, session: Session) -> bytes:
    body = b""
    async for piece in answer.pieces():
        body += piece
        if len(body) > ANSWER_SIZE_MAX:
            session.attempt.fail(Failure.MALFORMED, "the token's server sent too much", Operation.PREPARE)
    return body
