"""The modules that the settings name."""

from __future__ import annotations

from pathlib import Path

from prober.blackbox.modules import Modules, load
from prober.config.problems import Code, ConfigError, Problem
from prober.config.settings import Settings


def modules_of(settings: Settings, file: Path | None) -> Modules | None:
    """What `blackbox:` holds, None if it is not set. `file`: the settings' own, for the error. Raises ConfigError."""
    if settings.blackbox is not None:
        return load(settings.blackbox)
    if settings.probe_endpoint.enabled:
        message = "it has no modules to probe with; set blackbox: to a blackbox.yml, or run with --blackbox"
        where = "--allow" if file is None else str(file)
        raise ConfigError([Problem(where, 0, "probe_endpoint", message, Code.NO_MODULES)])
    return None
