"""blackbox_exporter's modules: its blackbox.yml is read as it is, and each module probes with our own network layer.

    modules.py     blackbox.yml -> Modules; `with_hostname`; `redacted` for /config
    options.py     the options of each prober, as documented there; tls_options.py, http_client_options.py, values.py
    yaml.py        the dialect that the file is written in
    probe.py       `probe(module, target, ...)` -> Result; the table PROBERS
    probe_*.py     a prober each; session.py is what they work with, guard.py what is asked before anything is sent
    exposition.py  the metrics of one probe; log.py what it says of itself
    kind.py        a module as a kind of check in a targets file
    endpoint.py    /probe, /config, /logs; policy.py who may be probed

The contract (options, defaults, metric names and when each of them is there) is that of blackbox_exporter 0.23 to 0.28.
"""

import prober.config  # noqa: F401  # first: each reads with parts of the other, and only this order works
from prober.blackbox.modules import Module, Modules, load, with_hostname

__all__ = ["Module", "Modules", "load", "with_hostname"]
