"""`tls_config:` of a module, and what it means to our TLS."""

from __future__ import annotations

from pydantic import model_validator

from prober.blackbox.values import Flag, Secret, SecretText, Section, Text, TlsVersionName, refuse


class TlsConfig(Section):
    """Files are read at each probe, as the original does: a certificate that is renewed needs no reload."""

    insecure_skip_verify: Flag = False
    ca: Text = ""
    ca_file: Text = ""
    cert: Text = ""
    cert_file: Text = ""
    key: SecretText = Secret("")
    key_file: Text = ""
    server_name: Text = ""
    min_version: TlsVersionName = ""
    max_version: TlsVersionName = ""

    @model_validator(mode="after")
    def _options_agree(self) -> TlsConfig:
        for text, file in (("ca", "ca_file"), ("cert", "cert_file"), ("key", "key_file")):
            if getattr(self, text) and getattr(self, file):
                refuse(f"at most one of {text} & {file} must be configured; remove one")
        has_cert, has_key = bool(self.cert or self.cert_file), bool(self.key or self.key_file)
        if has_cert and not has_key:
            refuse("exactly one of key or key_file must be configured when a client certificate is configured; add one")
        if has_key and not has_cert:
            refuse("exactly one of cert or cert_file must be configured when a client key is configured; add one")
        if self.min_version and self.max_version and self.max_version < self.min_version:
            refuse("max_version must be greater than or equal to min_version; correct one of them")
        return self
