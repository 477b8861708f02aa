"""What may stand in a targets file and in a references file: the models that files are validated against.

`targets`, `references` and `checks` hold lists that are validated item by item (see `targets.py`), so that one bad item
does not hide what is wrong with the others. The texts below the fields are the descriptions in the JSON schema.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from prober.config.types import Asn, Country, FileModel, Interval, Name, Prefix, Timeout, Title

INTERVAL_DEFAULT_SECONDS: Final = 60.0
TIMEOUT_DEFAULT_SECONDS: Final = 5.0


class Defaults(FileModel):
    """What holds for every check of the file that does not say otherwise."""

    interval: Interval = INTERVAL_DEFAULT_SECONDS
    """Time between two regular probes of a check; at least 1s, 60s unless given."""
    timeout: Timeout = TIMEOUT_DEFAULT_SECONDS
    """How long a probe may take; at most the interval, 5s unless given."""


class NetworkEntry(FileModel):
    """A routed prefix of the entity."""

    prefix: Prefix
    """The prefix in CIDR notation, without host bits."""
    title: Title | None = None
    """Its name for people."""
    origin_asn: Asn | None = None
    """Number of the autonomous system that announces the prefix."""
    transit: tuple[Asn, ...] = ()
    """Numbers of the autonomous systems that carry its traffic."""


class SiteEntry(FileModel):
    """A service that one or more targets (mirrors) provide."""

    title: Title | None = None
    """Its name for people."""


class CheckEntry(FileModel):
    """The keys that stand beside a check's kind."""

    name: Name | None = None
    """Unique within the target; the kind's name unless given."""
    interval: Interval | None = None
    """Time between two regular probes."""
    timeout: Timeout | None = None
    """How long a probe may take; at most the interval."""


class TargetEntry(FileModel):
    """A host or mirror, and what is asked of it."""

    name: Name
    """Unique per agent."""
    title: Title | None = None
    """Its name for people."""
    site: Name | None = None
    """The site that it is a mirror of; one of `sites`."""
    network: Name | None = None
    """The network that it stands in; one of `networks`."""
    hosted_in: Country | None = None
    """Where the server stands, as two capital letters. A property of the target, never the verdict on the entity."""
    require: Literal["any", "all"] = "any"
    """How many of its checks must be up for the target to count as reachable."""
    interval: Interval | None = None
    """Time between two regular probes of each of its checks."""
    timeout: Timeout | None = None
    """How long a probe of its checks may take; at most the interval."""
    checks: Annotated[tuple[object, ...], Field(min_length=1)]
    """What is asked of it: each item has one kind of probe as its key."""


class TargetsFile(FileModel):
    """An entity (a country, an organisation) and what is watched of it."""

    entity: Name
    """The entity's name; files of the same entity are merged."""
    title: Title | None = None
    """Its name for people."""
    country: Country | None = None
    """Two capital letters (ISO 3166-1), for example KP."""
    defaults: Defaults = Defaults()
    """Interval and timeout of all checks in this file."""
    networks: dict[Name, NetworkEntry] = Field(default_factory=dict)
    """The entity's networks by name; together they make the verdict on the entity."""
    sites: dict[Name, SiteEntry] = Field(default_factory=dict)
    """The entity's sites (services) by name."""
    references: tuple[Name, ...] | None = None
    """The references that vouch for the observer; all of them unless given, none if the list is empty."""
    targets: Annotated[tuple[object, ...], Field(min_length=1)]
    """What is probed."""


class ReferenceEntry(FileModel):
    """A control target: what this vantage must reach when it is online. It is never watched as a target."""

    name: Name
    """Unique per agent, and no target's name."""
    title: Title | None = None
    """Its name for people."""
    network: Name
    """Whose network it stands in, for example AS13335: references in distinct networks vouch independently."""
    interval: Interval | None = None
    """Time between two regular probes of each of its checks."""
    timeout: Timeout | None = None
    """How long a probe of its checks may take; at most the interval."""
    checks: Annotated[tuple[object, ...], Field(min_length=1)]
    """What is asked of it: each item has one kind of probe as its key."""


class ReferencesFile(FileModel):
    """The control targets of this vantage."""

    defaults: Defaults = Defaults()
    """Interval and timeout of all checks in this file."""
    references: Annotated[tuple[object, ...], Field(min_length=1)]
    """The control targets; at least three distinct networks make a majority meaningful."""
