"""Sockets: everything that sends or receives, with the errors of the operating system translated once, here."""
