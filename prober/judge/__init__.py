"""The judgement: a pure core (standard library only, time as an argument) that turns observations into outages."""

from prober.judge.judge import Judge
from prober.judge.records import Decisions, Gap, Outage, Settings, Verdict

__all__ = ["Decisions", "Gap", "Judge", "Outage", "Settings", "Verdict"]
