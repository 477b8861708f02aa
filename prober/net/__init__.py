"""Sockets: everything that sends or receives, with the errors of the operating system translated once, here."""

# The contract of probes, which this package fulfils, stands in a package whose table of kinds needs this one. Whoever
# imports a module from here first must find that table complete.
import prober.probes  # noqa: F401
