"""Proxies and certificate authorities from environment variables, read as `requests` reads them.

Proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. Authorities: `[http] ca_bundle`, else REQUESTS_CA_BUNDLE,
CURL_CA_BUNDLE, SSL_CERT_FILE or SSL_CERT_DIR, else certifi. Loopback addresses bypass proxies, since no proxy can reach
them.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import certifi
from requests.utils import get_auth_from_url, get_environ_proxies, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from lhq.errors import ConfigError
from lhq.http.guard import Target

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


class NetworkEnvironment:
    """Proxies and certificate authorities of one client, read once.

    Args:
        ca_bundle: `[http] ca_bundle`, a PEM file or a folder of hashed certificates; "" for the environment's.

    Raises:
        ConfigError: the bundle doesn't exist, or a proxy is not a URL of http or https.
    """

    def __init__(self, ca_bundle: str = "") -> None:
        self._find_bundle, self._bundle_setting = _find_bundle(ca_bundle)
        for scheme in ("http", "https"):
            self._checked_proxy(scheme)

    def proxy_for(self, target: Target) -> str | None:
        """The URL of the proxy for `target`; None for a direct connection."""
        proxy = _proxy(target.scheme, target.netloc)
        return None if proxy is None or _is_loopback(target.host) else proxy

    def proxies_for(self, target: Target) -> Mapping[str, str]:
        """The proxy for `target` in the form that `requests` expects."""
        proxy = self.proxy_for(target)
        return {target.scheme: proxy} if proxy else {}

    def secrets(self) -> Iterator[str]:
        """Passwords of proxies, to be hidden in messages."""
        for scheme in ("http", "https"):
            proxy = self._checked_proxy(scheme)
            if proxy:
                yield from (part for part in (get_auth_from_url(proxy)[1], urlsplit(proxy).password) if part)

    @functools.cached_property
    def tls(self) -> ssl.SSLContext:
        """The TLS context of every connection.

        Raises:
            ConfigError: the bundle holds no certificate.
        """
        context = create_urllib3_context()
        context.check_hostname = True
        is_folder = os.path.isdir(self._find_bundle)
        try:
            context.load_verify_locations(
                cafile=None if is_folder else self._find_bundle, capath=self._find_bundle if is_folder else None
            )
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"{self._bundle_setting} = {self._find_bundle!r}: no certificates can be read from it ({error})",
                hint="give a PEM file of certificate authorities",
            ) from None
        return context

    def _checked_proxy(self, scheme: str) -> str | None:
        proxy = _proxy(scheme, "example.org")
        if not proxy:
            return proxy
        hint = f"set {scheme.upper()}_PROXY to an http:// proxy, or unset it"
        try:
            parts = urlsplit(proxy)
            is_address = bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            raise ConfigError(f"the proxy {_without_user(proxy)} of the environment is no address", hint=hint)
        if parts.scheme not in {"http", "https"}:
            raise ConfigError(f"the proxy {parts.scheme}://{parts.hostname} is not of http or https", hint=hint)
        return proxy


def environment_variables() -> Iterator[tuple[str, str]]:
    """Yield (name, value) of the environment variables in use, without a proxy's user and password."""
    for name in _PROXY_NAMES:
        value = os.environ.get(name, "")
        if value and name.lower().endswith("_proxy"):
            yield name, _without_user(value)
    path, name = _find_bundle("")
    if name in _BUNDLES:
        yield name, path


def _without_user(address: str) -> str:
    return address.rpartition("@")[2]


@functools.lru_cache(maxsize=4096)
def _select_proxy(scheme: str, netloc: str, environment: tuple[tuple[str, str], ...]) -> str | None:
    url = f"{scheme}://{netloc}/"
    proxy = (select_proxy(url, get_environ_proxies(url)) or "").strip()
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _proxy(scheme: str, netloc: str) -> str | None:
    variables = tuple((name, value) for name in _PROXY_NAMES if (value := os.environ.get(name)))
    return _select_proxy(scheme, netloc, variables) if variables else None


_PROXY_NAMES = tuple(
    name
    for kind in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method")
    for name in (kind, kind.upper())
)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _find_bundle(setting: str) -> tuple[str, str]:
    """(path of the authorities, name of the setting that gives it)."""
    names = [("[http] ca_bundle", setting), *((name, os.environ.get(name, "")) for name in _BUNDLES)]
    for name, value in names:
        if value:
            path = os.path.expanduser(value)
            if not os.path.exists(path):
                raise ConfigError(
                    f"{name} = {value!r}: no such file", hint="give a PEM file of certificate authorities"
                )
            return path, name
    return certifi.where(), "certifi"
