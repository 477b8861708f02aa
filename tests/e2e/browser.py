"""A real browser: Debian's Chromium, driven by its DevTools protocol over a pipe. No port, no library.

It starts on a profile of its own, knows no host but those that pages name, and every message of its console, every
request and every failure is kept.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import pytest

from tests.lab import Namespace, require_program

SWITCHES: Final = (
    "--headless=new",
    "--no-sandbox",  # it runs as root, in a namespace of the test's
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
ANSWER_SECONDS: Final = 60.0


class Browser:
    """Chromium with one page, until the end of the block."""

    def __init__(self, namespace: Namespace | None = None) -> None:
        program = require_program("chromium")
        self._profile = tempfile.mkdtemp(prefix="prober-chromium-")
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # The browser reads descriptor 3 and writes descriptor 4; the shell moves ours there.
        command = [program, *SWITCHES, f"--user-data-dir={self._profile}", "about:blank"]
        if namespace is not None:
            command = namespace.command(*command)
        shell = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "browser", *command],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": self._profile},
        )
        os.close(to_read)
        os.close(to_write)
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self.console: list[str] = []
        """Errors and warnings that the page caused."""
        self.requests: list[str] = []
        """The address of everything that was asked for."""
        self._loaded = threading.Event()
        self._reader = threading.Thread(target=self._listen, name="browser", daemon=True)
        self._reader.start()
        self._session = ""
        try:
            targets = self.call("Target.getTargets")["targetInfos"]
            page = next(one["targetId"] for one in targets if one["type"] == "page")
            self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    # -- the protocol --------------------------------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result. Fails the test if there is none."""
        number = next(self._numbers)
        answer = self._answers[number] = queue.Queue(1)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        try:
            found = answer.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            pytest.fail(f"the browser did not answer {method}")
        finally:
            del self._answers[number]
        if "error" in found:
            pytest.fail(f"{method}: {found['error']}")
        return dict(found["result"])

    def _listen(self) -> None:
        held = b""
        while True:
            try:
                data = os.read(self._read, 1 << 20)
            except OSError:
                return
            if not data:
                return
            held += data
            *messages, held = held.split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message: Mapping[str, Any]) -> None:
        if "id" in message:
            answer = self._answers.get(message["id"])
            if answer is not None:
                answer.put(dict(message))
            return
        what, told = message.get("method"), message.get("params", {})
        if what == "Page.loadEventFired":
            self._loaded.set()
        elif what == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif what == "Runtime.exceptionThrown":
            self.console.append(str(told["exceptionDetails"].get("exception", told["exceptionDetails"])))
        elif what == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.console.append(str([argument.get("value") for argument in told["args"]]))
        elif what == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.console.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    # -- the page ------------------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._loaded.clear()
        found = self.call("Page.navigate", url=url)
        assert not found.get("errorText"), f"{url}: {found['errorText']}"
        if not self._loaded.wait(ANSWER_SECONDS):
            pytest.fail(f"not loaded: {url}")

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            pytest.fail(f"{expression[:200]}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """What stands in the first element of that kind; empty if there is none."""
        return " ".join(str(self.run(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")).split())

    def when(self, expression: str, within: float, what: str = "") -> Any:
        """The first value of an expression that is true. Fails the test after `within` seconds."""
        deadline = time.monotonic() + within
        while not (found := self.run(expression)):
            if time.monotonic() >= deadline:
                pytest.fail(
                    f"not within {within:g} s: {what or expression}\n{self.run('document.body.innerText')[:3000]}"
                )
            time.sleep(0.1)
        return found

    def look(self, width: int, height: int, *, dark: bool = False, reduced_motion: bool = True) -> None:
        """Be this large, in light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
            ],
        )

    def script(self, enabled: bool) -> None:
        """Let pages run scripts, or not; from the next one on."""
        self.call("Emulation.setScriptExecutionDisabled", value=not enabled)

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """What it looks like, as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """End it, and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        self._reader.join(5)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
