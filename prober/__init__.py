"""prober: an active reachability prober."""

__version__ = "0.1.0"
