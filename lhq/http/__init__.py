"""URL → bytes: one client, polite to every host and safe from every server.

`guard` says where a connection may go, `pace` when, `exchange` moves the bytes through a `requests` session under caps,
`robots` and the opt-out headers say what may be kept; `Client` joins them and is what sources and stages are given.
"""

from lhq.http.answer import Answer, Headers, OptedOut
from lhq.http.body import Budget
from lhq.http.client import Client
from lhq.http.guard import Guard, Target, clean
from lhq.http.pace import Host, Hosts

__all__ = ["Answer", "Budget", "Client", "Guard", "Headers", "Host", "Hosts", "OptedOut", "Target", "clean"]
