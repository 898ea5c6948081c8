"""URL → bytes: one client that is polite to every host and safe against every server.

`guard` decides where connections may go and `pace` when; `exchange` transfers bytes through a `requests` session within
limits; `robots` and opt-out headers decide what may be kept. `Client` combines them for sources and stages.
"""

from lhq.http.body import Budget
from lhq.http.client import Client
from lhq.http.guard import Guard, Target, clean
from lhq.http.pace import Host, Hosts
from lhq.http.response import Headers, OptedOut, Response

__all__ = ["Budget", "Client", "Guard", "Headers", "Host", "Hosts", "OptedOut", "Response", "Target", "clean"]
