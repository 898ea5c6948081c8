"""Protection from server-side request forgery: URL → the addresses that a connection may use.

Addresses are checked after resolving, so spelling doesn't matter (127.3, 0x7f000001, 2130706433, ::ffff:127.0.0.1, a
name that resolves to one of them). The socket connects to the checked address itself, so a name that resolves
differently a moment later (DNS rebinding) gains nothing. A host with one forbidden address is refused.
Source: IANA special-purpose address registries; metadata addresses as published by the cloud providers.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from lhq.errors import FetchError
from lhq.printable import CONTROL, escaped

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Public by the registries, but a metadata service inside every machine of Azure.
_METADATA = {ipaddress.ip_address("168.63.129.16")}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Network-local translation (RFC 8215), 6to4 relays (RFC 7526), protocol assignments (RFC 6890; with Oracle's metadata
# service) and documentation (RFC 9637): never a public host.
_NON_PUBLIC_NETWORKS = tuple(
    map(ipaddress.ip_network, ("64:ff9b:1::/48", "192.88.99.0/24", "192.0.0.0/24", "3fff::/20"))
)
_ISATAP = {0x00005EFE, 0x02005EFE}  # before the IPv4 address in an interface identifier (RFC 5214)
_URL_SAFE = "%/:=&?~#+!$,;'@()*[]"


def clean(text: object, secrets: Iterable[str] = (), limit: int = 300) -> str:
    """Sanitise remote text for a log line: escape control characters, replace secrets by ***, cut at `limit`."""
    line = str(text)
    for secret in secrets:
        if secret:
            line = line.replace(secret, "***")
    line = escaped(line)
    return line if len(line) <= limit else f"{line[:limit]}…"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL. `path` includes the query; `netloc` is `host:port`, the key of hosts' pace and of allow_hosts."""

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
    """Parse a URL (relative to `base` if given).

    Raises:
        FetchError: `bad-url`, permanent: not http or https, control characters, a user name, no host.
    """

    def refuse(why: str) -> FetchError:
        return FetchError(
            f"{clean(url)}: {why}", hint="only plain http(s) URLs are fetched", reason="bad-url", permanent=True
        )

    if CONTROL.search(url):
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
    """Whether an address is a public host's.

    False for private, loopback, link-local, shared, multicast, reserved and metadata addresses, for IPv6 addresses that
    embed such an IPv4 address (mapped, NAT64, 6to4, ISATAP), and for Teredo.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _NAT64:
            inner = last
        if inner is not None:
            return is_public(inner)
        if int(address) >> 32 & 0xFFFFFFFF in _ISATAP and not is_public(last):
            return False
        if address.teredo is not None or address.is_site_local or int(address) < 2**32:
            return False
    if any(address in network for network in _NON_PUBLIC_NETWORKS):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _METADATA


class Guard:
    """Decides where connections may go.

    Args:
        allow_hosts: exact `host:port` pairs that are exempt from the check (tests, intranets).
    """

    def __init__(self, allow_hosts: Iterable[str] = ()) -> None:
        self._exempt = frozenset(pair.lower() for pair in allow_hosts)

    def is_exempt(self, target: Target) -> bool:
        return target.netloc in self._exempt

    def addresses(self, target: Target) -> list[tuple[socket.AddressFamily, str]]:
        """Resolve `target` and return its addresses, all of them allowed; doesn't connect.

        Raises:
            FetchError: `unresolved` (may be temporary), or `forbidden-address` (permanent).
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

    def check_behind_proxy(self, target: Target) -> None:
        """Check a target that is requested through a proxy. The proxy resolves the name itself, so a name that doesn't
        resolve here is allowed; one that resolves to a forbidden address is refused.

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
        FetchError: `unresolved` (may be temporary).
    """
    try:
        match = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(
            f"{clean(host)}: name not resolved ({error})",
            hint="check the network and the host name",
            reason="unresolved",
            permanent=False,
        ) from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in match))
