"""URL → bytes: one client, polite to every host and safe from every server.

`guard` says where a connection may go, `pace` when, `wire` moves the bytes under caps, `robots` and the opt-out
headers say what may be kept; `Client` joins them and is what sources and stages are given.
"""

from lhq.http.client import Client
from lhq.http.guard import Guard, Target, clean
from lhq.http.pace import Host, Hosts
from lhq.http.wire import Answer

__all__ = ["Answer", "Client", "Guard", "Host", "Hosts", "Target", "clean"]
