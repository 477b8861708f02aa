"""docs/settings.md, docs/targets.md, docs/worlds.md: every key of our files, from the models that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from docs.source.models import table
from prober.app import FIXED_WHILE_RUNNING
from prober.blackbox.kind import KINDS
from prober.config import json_schema
from prober.config.files import (
    CheckEntry,
    Defaults,
    NetworkEntry,
    ReferenceEntry,
    ReferencesFile,
    SiteEntry,
    TargetEntry,
    TargetsFile,
)
from prober.config.schema import SchemaKind
from prober.config.settings import Judgement, Limits, Log, ProbeEndpoint, Settings, Vantage, Web
from prober.config.worlds import Burst, ConditionEntry, Match, ObserverEntry, VantageEntry, WorldFile
from prober.net.tls import TlsOptions
from prober.probes.dns_options import DnsExpect
from prober.probes.http_options import HttpExpect

EXAMPLES: Final = Path(__file__).parent.parent / "examples"

WRITTEN: Final = "Written by `make docs` from the models in {}. Do not edit it.\n"

HOW_FILES_ARE_READ: Final = """\
Files are YAML 1.2 without tags and merge keys (`NO` is text, `22:15` is text). An unknown key is a mistake, and so is a
key that is there twice. All mistakes are reported at once, each with file, line, key and what to do; a file with a
mistake changes nothing.

- A *duration* has units: `500ms`, `30s`, `5m`, `1h30m`, `2d`. A bare number is refused.
- A *name* has up to 100 of A-Z a-z 0-9 `.` `_` `-`, a letter or digit first.
- A *country code* has two capital letters (ISO 3166-1).
- A *regular expression* is RE2's, and may match anywhere unless it says `^` or `$`.
"""

SETTINGS: Final = """\
# Settings

{written}
Every key is optional; `prober run --config settings.yml` reads the file. Paths in it are relative to it. An argument of
the command line (`--listen`, `--data-dir`, targets files) comes before the file. SIGHUP or a POST to `/-/reload` reads
it again. These keys change with a restart only, and a reload warns of them in the log:
{fixed}.

    prober check settings.yml
    prober check --schema settings > settings.schema.json     # for your editor

{how}
## Example

Every key, with values that make sense together ([examples/settings.yml](examples/settings.yml)):

```yaml
{example}```
"""

TARGETS: Final = """\
# Targets and references

{written}
A targets file names one entity (a country, an organisation) and what is watched of it. Several files may add to the
same entity. A references file names the control targets that this vantage must reach while it is online; they are never
watched as targets.

    prober check my-targets.yml                              # every mistake, and how many packets a second it comes to
    prober check --schema targets > targets.schema.json      # for your editor; --schema references too

{how}
## Example

Every key of a targets file ([examples/targets.yml](examples/targets.yml)):

```yaml
{example}```

And of a references file ([examples/references.yml](examples/references.yml)):

```yaml
{second}```
"""

WORLDS: Final = """\
# Worlds

{written}
A world says what is true, second by second, and `prober replay` lets it pass on a virtual clock:
[replay.md](replay.md). A *time* is UTC, like `2014-12-22T16:15:00Z` or `2014-12-22`.

    prober check my-world.yml
    prober check --schema world > world.schema.json      # for your editor

{how}
## Example

Every key ([examples/world.yml](examples/world.yml)):

```yaml
{example}```
"""


def settings() -> str:
    """The whole document."""
    head = SETTINGS.format(
        written=WRITTEN.format("`prober/config/settings.py`"),
        fixed=", ".join(f"`{key}`" for key in FIXED_WHILE_RUNNING),
        how=HOW_FILES_ARE_READ,
        example=example("settings.yml"),
    )
    parts = [
        _section(title, model, "settings")
        for title, model in (
            ("The file", Settings),
            ("vantage", Vantage),
            ("judgement", Judgement),
            ("limits", Limits),
            ("web", Web),
            ("probe_endpoint", ProbeEndpoint),
            ("log", Log),
        )
    ]
    return "\n".join([head, *parts])


def targets() -> str:
    """The whole document."""
    head = TARGETS.format(
        written=WRITTEN.format("`prober/config/files.py` and of each kind of probe"),
        how=HOW_FILES_ARE_READ,
        example=example("targets.yml"),
        second=example("references.yml"),
    )
    parts = [
        _section("A targets file", TargetsFile, "targets"),
        _section("defaults", Defaults, "targets"),
        _section("networks", NetworkEntry, "targets"),
        _section("sites", SiteEntry, "targets"),
        _section("targets", TargetEntry, "targets"),
        _checks(),
        *(_section(kind.name, kind.options, "targets") for kind in KINDS.values()),
        _section("dns expect", DnsExpect, "targets"),
        _section("http expect", HttpExpect, "targets"),
        _section("tls", TlsOptions, "targets"),
        _section("A references file", ReferencesFile, "references"),
        _section("references", ReferenceEntry, "references"),
    ]
    return "\n".join([head, *parts])


def worlds() -> str:
    """The whole document."""
    head = WORLDS.format(
        written=WRITTEN.format("`prober/config/worlds.py`"), how=HOW_FILES_ARE_READ, example=example("world.yml")
    )
    parts = [
        _section(title, model, "world")
        for title, model in (
            ("The file", WorldFile),
            ("vantages", VantageEntry),
            ("burst", Burst),
            ("conditions", ConditionEntry),
            ("match", Match),
            ("observer", ObserverEntry),
        )
    ]
    return "\n".join([head, *parts])


def _checks() -> str:
    kinds = ", ".join(f"[`{kind.name}`](#{kind.name})" for kind in KINDS.values())
    lead = (
        f"Each check has one key that is its kind ({kinds}) with the kind's options below it, and beside it any of\n"
        "these:\n"
    )
    properties = json_schema("targets")["$defs"]["Check"]["oneOf"][0]["properties"]
    return f"## checks\n\n{lead}\n{table(CheckEntry, properties)}"


def _section(title: str, model: type[Any], file: SchemaKind) -> str:
    schema = json_schema(file)
    found = schema["$defs"].get(model.__name__, schema)
    lead = (model.__doc__ or "").strip().partition("\n\n")[0]
    return f"## {title}\n\n{lead}\n\n{table(model, found['properties'], here=file != 'world')}"


def example(name: str) -> str:
    """An example file, whole."""
    return (EXAMPLES / name).read_text(encoding="utf-8")
