"""What can be chosen at the top of the dashboards, and links that hand a choice on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana.source.model import Json, Link, Variable

OVERVIEW, ENTITY_PAGE, TARGET_PAGE, VANTAGES_PAGE = (
    "prober-overview",
    "prober-entity",
    "prober-target",
    "prober-vantages",
)
"""Fixed, so that links and bookmarks stay good."""


@dataclass(frozen=True)
class Scopes(Variable):
    """Which scopes the tables list. Words of the agent's own, so they need no query."""

    chosen: Sequence[str] = ("entity", "network", "site")

    def to_json(self) -> Json:
        words = ("entity", "network", "site", "target", "check")
        return {
            "name": self.name,
            "type": "custom",
            "label": self.label,
            "description": self.description,
            "query": ",".join(words),
            "multi": True,
            "includeAll": True,
            "current": {"text": list(self.chosen), "value": list(self.chosen)},
            "options": [{"text": word, "value": word, "selected": word in self.chosen} for word in words],
        }


class Hidden(Variable):
    """A variable that nobody chooses: always all of it, and nothing where there is nothing."""

    def to_json(self) -> Json:
        found = super().to_json() | {"hide": 2}
        del found["allValue"]
        return found


ENTITY: Final = Variable("entity", "Entity", "prober_observed", "entity", "Countries and other entities")
ONE_ENTITY: Final = Variable(
    "entity", "Entity", "prober_observed", "entity", "The country or other entity", multi=False
)
SCOPES: Final = Scopes("scope", "Scopes in tables", "", "", "Which scopes the tables list")
FUSED: Final = Hidden("fused", "", "scope:prober_state:quorum", "scope", "Scopes that the recording rules know")
VANTAGE: Final = Variable(
    "vantage", "Vantage", "prober_build_info", "vantage", "Where agents watch from", all_value=".+"
)
TARGET: Final = Variable(
    "target", "Target", 'prober_target_info{entity=~"$entity"}', "target", "A host or service", multi=False
)
CHECK: Final = Variable("check", "Check", 'prober_probes_total{target=~"$target"}', "check", "Checks of the target")

TO_ENTITY: Final = Link("Entity ${__data.fields.Entity}", ENTITY_PAGE, {"entity": "${__data.fields.Entity}"})
TO_NAMED_ENTITY: Final = Link("Entity", ENTITY_PAGE, {"entity": "${__field.labels.entity}"})
TO_NAMED_TARGET: Final = Link(
    "Target", TARGET_PAGE, {"target": "${__field.labels.name}", "entity": "${__field.labels.entity}"}
)
TO_VANTAGE: Final = Link("Vantage", VANTAGES_PAGE, {"vantage": "${__field.labels.vantage}"})
