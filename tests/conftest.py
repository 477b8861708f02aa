"""Fixtures of every test: hosts and networks of the test's own. See `tests.lab`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from tests.lab import Namespace, Routed, in_ci, require_program, require_root, sweep

HERE: Final = Path(__file__).parent
BY_PLACE: Final = {
    "unit": "computes",
    "property": "computes",
    "e2e": "waits",
    "contract/test_ledger_files.py": "waits",
    "contract/test_page.py": "waits",
    "contract/test_rules.py": "computes",
}
"""How the tests of a directory or a file run beside others (see the markers in pyproject.toml), unless one says itself
that it is `alone`."""


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # one process of pytest-xdist's is enough
        sweep()
    # In CI the same examples every time: what is found by chance is found on a laptop, and stays found.
    hypothesis.settings.register_profile("ci", derandomize=True, database=None)
    if in_ci():
        hypothesis.settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(HERE)
        kind = BY_PLACE.get(place.as_posix()) or BY_PLACE.get(place.parts[0])
        if kind is not None and item.get_closest_marker("alone") is None:
            item.add_marker(kind)


@pytest.fixture
def make_namespace() -> Iterator[Callable[[str], Namespace]]:
    """`make_namespace("client")`: a host that is gone when the test ends."""
    require_root()
    require_program("ip")
    require_program("nft")
    with ExitStack() as stack:
        yield lambda label: stack.enter_context(Namespace(label))


@pytest.fixture
def namespace(make_namespace: Callable[[str], Namespace]) -> Namespace:
    """One host with a loopback interface and no other."""
    return make_namespace("host")


@pytest.fixture
def routed(make_namespace: Callable[[str], Namespace]) -> Routed:
    """`routed.client`, `routed.router`, `routed.server` in a row."""
    return Routed(make_namespace)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI every part is there, so a skipped test is a failed run: a test that never runs cannot fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if in_ci() and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if in_ci() and skipped:
        terminalreporter.write_line(f"CI=true: {len(skipped)} skipped tests fail the run", red=True)
