"""URL → the one address a connection may use: public, judged after resolving, pinned to the socket.

Spelling does not matter (127.3, 0x7f000001, 2130706433, ::ffff:127.0.0.1, a name that resolves so): whatever the
resolver makes of a host is judged, and the judged address itself is what the socket connects to, so a name
that resolves differently a moment later (DNS rebinding) gains nothing. One forbidden address condemns the name.
Source: IANA special-purpose address registries; metadata addresses as the cloud providers publish them.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from lhq.errors import FetchError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Public by the registries, yet inside every machine of that cloud.
_METADATA = {ipaddress.ip_address("168.63.129.16")}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Translation inside one network (RFC 8215), and the relays of 6to4 (RFC 7526): never a public host.
_INSIDE = (ipaddress.ip_network("64:ff9b:1::/48"), ipaddress.ip_network("192.88.99.0/24"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# What no line of ours shows either: marks that turn the direction of text, and halves of characters, which can't be
# printed. Names of files may hold such marks, so in a URL they are percent-encoded like any letter.
_HIDDEN = re.compile(rf"{_CONTROL.pattern}|[\u061c\u200e\u200f\ufeff\ud800-\udfff]")
_URL_SAFE = "%/:=&?~#+!$,;'@()*[]"


def clean(text: object, secrets: Iterable[str] = (), limit: int = 300) -> str:
    """Remote text fit for a log line: control characters escaped, keys replaced by ***, cut at `limit`."""
    line = str(text)
    for secret in secrets:
        if secret:
            line = line.replace(secret, "***")
    line = _HIDDEN.sub(_escaped, line)
    return line if len(line) <= limit else f"{line[:limit]}…"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. `path` carries the query; `netloc` is `host:port`, the key of pace and of allow_hosts."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        default = {"http": 80, "https": 443}[self.scheme] == self.port
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if default else f':{self.port}'}{self.path}"


def parse(url: str, base: str | None = None) -> Target:
    """`url` (relative to `base` if given) as a target.

    Raises:
        FetchError: `bad-url`, permanent: not http or https, control characters, a user name inside, no host.
    """

    def refuse(why: str) -> FetchError:
        return FetchError(
            f"{clean(url)}: {why}", hint="only plain http(s) URLs are fetched", reason="bad-url", permanent=True
        )

    if _CONTROL.search(url):
        raise refuse("control characters in the URL")
    try:
        parts = urlsplit(urljoin(base, url) if base else url)
        port = parts.port
    except ValueError as error:
        raise refuse(f"not a URL ({error})") from None
    if parts.scheme not in {"http", "https"}:
        raise refuse(f"scheme {parts.scheme!r}")
    if parts.username is not None or parts.password is not None:
        raise refuse("a user name in the URL")
    if port == 0:
        raise refuse("port 0")
    host = (parts.hostname or "").rstrip(".")
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise refuse("a host name that IDNA does not allow") from None
    if not host or len(host) > 253 or " " in host:
        raise refuse("no host")
    path = quote(parts.path or "/", safe=_URL_SAFE)
    if parts.query:
        path += f"?{quote(parts.query, safe=_URL_SAFE)}"
    return Target(parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme], path)


def is_public(address: Address) -> bool:
    """False for private, loopback, link-local, shared, multicast, reserved and metadata addresses, and for IPv6
    forms that carry such an IPv4 address inside (mapped, NAT64, 6to4, Teredo)."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local or int(address) < 2**32:
            return False
    if any(address in network for network in _INSIDE):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _METADATA


class Guard:
    """Where connections may go.

    Args:
        allow_hosts: exact `host:port` pairs that are exempt (tests, intranets).
    """

    def __init__(self, allow_hosts: Iterable[str] = ()) -> None:
        self._exempt = frozenset(pair.lower() for pair in allow_hosts)

    def is_exempt(self, target: Target) -> bool:
        return target.netloc in self._exempt

    def addresses(self, target: Target) -> list[tuple[socket.AddressFamily, str]]:
        """The addresses that `target` may be connected at; nothing is connected yet.

        Raises:
            FetchError: `unresolved` (may pass), or `forbidden-address` (permanent).
        """
        pairs = resolve(target.host, target.port)
        if not self.is_exempt(target):
            for _, literal in pairs:
                if not is_public(ipaddress.ip_address(literal.split("%")[0])):
                    raise FetchError(
                        f"{clean(target.netloc)} is {literal}: not a public address",
                        hint=f'if it is meant, add "{clean(target.netloc)}" to [http] allow_hosts',
                        reason="forbidden-address",
                        permanent=True,
                    )
        return pairs

    def judge_behind_proxy(self, target: Target) -> None:
        """Judge what a proxy is about to be asked for. The proxy looks names up itself, so a name that means nothing
        here passes, and one that means an address inside is refused.

        Raises:
            FetchError: `forbidden-address`.
        """
        try:
            self.addresses(target)
        except FetchError as error:
            if error.reason != "unresolved":
                raise


def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """Every address of a host, in the resolver's order.

    Raises:
        FetchError: `unresolved` (may pass).
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(
            f"{clean(host)}: name not resolved ({error})",
            hint="check the network and the host name",
            reason="unresolved",
            permanent=False,
        ) from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
