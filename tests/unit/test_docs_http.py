"""docs/http.md lists the paths that the program has, with their methods, and no others."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import Any, cast

from prober.web.auth import Users
from prober.web.server import Access, PageOnly, make_app
from tests.documents import ROOT
from tests.webface import Agent

TEXT = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(/[^`]*)` \| ([A-Z, ]+) \|", TEXT, flags=re.MULTILINE)


def paths(views: Any) -> dict[str, set[str]]:
    """Path -> methods of the application, what stands for a part of the path without its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for route in make_app(views, Access(Users({}), {})).router.routes():
        assert route.resource is not None
        found[re.sub(r"{[^}]*}", "{}", route.resource.canonical)].add(route.method)
    return {path: methods - {"HEAD"} for path, methods in found.items()}


def listed() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path, methods in ROWS:
        found[re.sub(r"{[^}]*}", "{}", path)] |= set(methods.split(", "))
    return dict(found)


async def test_every_path_is_listed_and_none_else() -> None:
    views = replace(Agent().views(), endpoint=cast(Any, object()))  # is not asked
    assert listed() == paths(views)


async def test_the_page_of_a_ledger_has_those_of_the_pages() -> None:
    section = TEXT.partition("\n## Pages\n")[2].partition("\n## ")[0]
    told = {re.sub(r"{[^}]*}", "{}", path) for path, _methods in ROWS if f"| `{path}` |" in section}
    assert told == set(paths(PageOnly(Agent())))
