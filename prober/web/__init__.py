"""The HTTP face.

listener.py     WebFace: sockets, limits     webconfig.py    web.yml: TLS and users
server.py       paths and access             auth.py         basic auth
scrape.py       /metrics                     attribution.py  /.well-known/probing.txt
page.py         the status page's paths      blackbox.py     /probe, /config, /logs
"""

from prober.web.attribution import Attribution
from prober.web.listener import CannotListen, WebFace
from prober.web.server import PageOnly, Views
from prober.web.webconfig import WebConfig, read_web_config

__all__ = ["Attribution", "CannotListen", "PageOnly", "Views", "WebConfig", "WebFace", "read_web_config"]
