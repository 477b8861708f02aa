"""prober's /probe beside the real blackbox_exporter: the same modules, the same servers, the same answers."""
