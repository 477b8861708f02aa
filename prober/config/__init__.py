"""Configuration: YAML files to settings, entities, targets, checks and references.

Unknown keys are refused; every problem is one line with file, line, key and remedy; all problems are found at once.

    settings.py     the agent's settings        load.py       files -> what the agent runs on
    files.py        models of the other files   check.py      `prober check`
    targets.py      entities and their targets  schema.py     JSON schemas for editors
    references.py   control targets             messages.py   pydantic's errors in plain words
    checks.py       a check and its kind        parse.py      YAML with lines
    worlds.py       scripted worlds
"""

import prober.probes  # noqa: F401  # before prober.net: each imports the other, and only this order works
from prober.config.check import CheckResult, Summary, check_files
from prober.config.checks import options_of
from prober.config.load import Config, load, load_references, load_targets
from prober.config.optout import OptOut
from prober.config.problems import ConfigError, Problem
from prober.config.schema import json_schema
from prober.config.settings import SHIPPED, Listen, Settings, load_settings
from prober.config.worlds import World, load_world

__all__ = [
    "SHIPPED",
    "CheckResult",
    "Config",
    "ConfigError",
    "Listen",
    "OptOut",
    "Problem",
    "Settings",
    "Summary",
    "World",
    "check_files",
    "json_schema",
    "load",
    "load_references",
    "load_settings",
    "load_targets",
    "load_world",
    "options_of",
]
