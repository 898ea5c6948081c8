"""Pipeline file → validated settings: one TOML says everything but the keys.

Every room owns the settings class beside the code it configures (`class SizeSettings(Settings)`); this file
holds what they share: unknown keys are errors with the nearest name, and every error says file, table, key,
value and next move. `lhq.pipeline` joins them with the table of names.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import pydantic

from lhq import nearest
from lhq.errors import ConfigError
from lhq.text_file import read_text


class Settings(pydantic.BaseModel):
    """Base of every settings class: frozen, no unknown keys, no silent type changes of meaning."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _RelativeToFile:
    """Marks a setting that names a place of this machine."""


RELATIVE_TO_FILE = _RelativeToFile()
PathSetting = Annotated[str, RELATIVE_TO_FILE]
"""A path; in a pipeline file it is relative to that file."""
FILE = _RelativeToFile()
WordOrFile = Annotated[str, FILE]
"""A known word, or a path: where it is no file as it stands, the one beside the pipeline file is meant."""


DAY_S = 86_400


class HttpSettings(Settings):
    """`[http]`: how the client behaves towards every host."""

    user_agent: str = "lhq/0.1 (landscape dataset builder)"
    """What the client calls itself; `contact` is added."""
    contact: str = ""
    """An address or URL where a site's owner can reach you; added to the User-Agent, required for Commons."""
    allow_hosts: tuple[str, ...] = ()
    """Exact host:port pairs exempt from the private-address guard (tests, intranets)."""

    @pydantic.field_validator("allow_hosts")
    @classmethod
    def _are_hosts(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        for pair in pairs:
            found = _HOST.fullmatch(_in_ascii(pair))
            if found is None or not 0 < int(found[1]) < 65536:
                what = "a pattern, and each pair is exact" if "*" in pair else "no host:port pair"
                raise ValueError(f"{pair!r} is {what}, such as 127.0.0.1:8210 or [::1]:8210")
        return tuple(_in_ascii(pair).lower() for pair in pairs)

    @pydantic.field_validator("user_agent", "contact")
    @classmethod
    def _fits_a_header(cls, text: str) -> str:
        odd = next((letter for letter in text if not letter.isprintable() or ord(letter) > 255), None)
        if odd is not None:
            raise ValueError(f"no header can carry {odd!r}")
        return text

    @pydantic.field_validator("user_agent")
    @classmethod
    def _says_who_asks(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("services want to know who asks")
        return text

    max_bytes: int = pydantic.Field(64 * 2**20, gt=0, le=2**30)
    """Largest answer that is read, also after unpacking."""
    max_pixels: int = pydantic.Field(200_000_000, gt=0)
    """Decompression-bomb cap, judged from the header before anything is decoded."""
    connect_timeout_s: float = pydantic.Field(10.0, gt=0, le=DAY_S)
    """For a connection, its name and its TLS handshake."""
    read_timeout_s: float = pydantic.Field(30.0, gt=0, le=DAY_S)
    """Without a byte from the server."""
    total_timeout_s: float = pydantic.Field(180.0, gt=0, le=DAY_S)
    """For a whole answer, headers included: a server that drips is cut off."""
    max_redirects: int = pydantic.Field(5, ge=0, le=5)
    """Each hop is checked like the first address."""
    per_host: int = pydantic.Field(8, gt=0)
    """Connections at once to one host."""
    pace_per_s: float = pydantic.Field(50.0, ge=1e-4, le=1_000_000)
    """Requests a second to one host at most; halves on 429/503, recovers slowly."""
    max_attempts: int = pydantic.Field(5, gt=0)
    """After so many failures a photo has failed."""
    retry_delay_s: float = pydantic.Field(5.0, gt=0, le=DAY_S)
    """Before the second attempt, with jitter; three times longer before each further one."""
    robots: bool = True
    """Ask robots.txt of image hosts, and the reservations in files beside it."""
    ca_bundle: str = ""
    """A PEM file (or a folder) of certificate authorities, in place of those that REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or
    SSL_CERT_FILE name, and of certifi's."""


S = TypeVar("S", bound=Settings)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:\[[0-9A-Fa-f:.]+\]|{_LABEL}(?:\.{_LABEL})*):([1-9][0-9]{{0,4}})")
# What pydantic says of Python's types, in words of a TOML file.
_MEANT = {"tuple_type": "a list is meant", "list_type": "a list is meant", "too_short": "it lists nothing"}
_KINDS = {"str", "list[str]"}  # what pydantic adds to the place of a value that may be of several kinds


def read_toml(path: Path) -> dict[str, object]:
    """The tables of a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})", hint="give a readable TOML file") from None
    except UnicodeError as error:
        raise ConfigError(f"{path}: {error}", hint="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="mend that line") from None


def resolve_paths(settings: S, resolve: Callable[[str], str]) -> S:
    """`settings` with every path in them (`PathSetting`) as `resolve` gives it; empty ones stay empty."""
    changes: dict[str, object] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if RELATIVE_TO_FILE in field.metadata and value:
            changes[name] = resolve(value) if isinstance(value, str) else tuple(resolve(each) for each in value)
        elif FILE in field.metadata and value and not Path(value).exists() and Path(beside := resolve(value)).is_file():
            changes[name] = beside
    return settings.model_copy(update=changes) if changes else settings


def validate(kind: type[S], table: Mapping[str, object], where: str) -> S:
    """`table` as settings of `kind`.

    Args:
        where: what errors start with, e.g. `pipelines/a.toml [filter.size]`.

    Raises:
        ConfigError: an unknown key (with the nearest name), a missing one, or a wrong value.
    """
    for key, value in table.items():
        # Where a number is meant, pydantic takes true for 1.
        if (
            isinstance(value, bool)
            and key in kind.model_fields
            and "bool" not in str(kind.model_fields[key].annotation)
        ):
            said = "true" if value else "false"
            raise ConfigError(
                f"{where}: {key} = {said}: neither true nor false is meant here", hint="correct the value"
            )
        # And "10" for 10, and "no" for false.
        meant = _bare_kind(kind.model_fields[key].annotation) if key in kind.model_fields else ""
        if meant == "number" and isinstance(value, str):
            bare = value if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", value) else 1
            raise ConfigError(f'{where}: {key} = "{value}": a number is meant', hint=f"write {key} = {bare}, bare")
        if meant == "bool" and not isinstance(value, bool):
            shown = f'"{value}"' if isinstance(value, str) else value
            bare = "false" if str(value).lower() in {"false", "no", "off", "0"} else "true"
            raise ConfigError(f"{where}: {key} = {shown}: true or false is meant", hint=f"write {key} = {bare}, bare")
        if key in kind.model_fields and {RELATIVE_TO_FILE, FILE} & {*kind.model_fields[key].metadata}:
            _check_path(value, f"{where}: {key}", is_needed=kind.model_fields[key].is_required())
    try:
        return kind.model_validate(dict(table))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part not in _KINDS)
        if first["type"] == "extra_forbidden":
            raise unknown_key(key, _keys_beside(kind, first["loc"]), where) from None
        if first["type"] == "missing":
            raise ConfigError(f'{where}: "{key}" is missing', hint=f"add a line {key} = …") from None
        value, said = first.get("input"), first.get("ctx", {}).get("error", first["msg"])
        hint = "" if "did you mean" in str(said) else "correct the value"
        if (of := first["type"]) in _MEANT:
            said = _MEANT[of]
            hint = f'write {key} = ["{value}"]' if of != "too_short" and isinstance(value, str) else hint
        if first["type"] == "literal_error":
            hint = nearest.word(str(value), re.findall(r"'([^']*)'", first["ctx"]["expected"]), hint)
        shown = value.isoformat() if isinstance(value, datetime.date) else repr(value)
        raise ConfigError(f"{where}: {key} = {shown}: {said}", hint=hint) from None


def _keys_beside(kind: type[pydantic.BaseModel], where: tuple[int | str, ...]) -> list[str]:
    """The keys that the table knows in which a key stands (`where`: its path), with the path before each."""
    before = ""
    for part in where[:-1]:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        kinds = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
        inner = next((one for one in kinds if issubclass(one, pydantic.BaseModel)), None)
        if inner is None:
            break
        kind, before = inner, f"{before}{part}."
    return [f"{before}{name}" for name in kind.model_fields]


def _bare_kind(annotation: object) -> str:
    """`number` or `bool` for a setting that is written without quotes, else ""."""
    kinds = (set(get_args(annotation)) or {annotation}) - {type(None)}
    if kinds == {bool}:
        return "bool"
    return "number" if kinds and kinds <= {int, float} else ""


def _check_path(value: object, where: str, *, is_needed: bool) -> None:
    for path in value if isinstance(value, list) else [value]:
        if isinstance(path, str) and (is_blank(path) if path or is_needed else False):
            raise ConfigError(f"{where} = {path!r}: no path is called so", hint="correct the value")


def is_blank(path: str) -> bool:
    """Does this name no place: nothing but spaces, or characters that no path may hold?"""
    return not path.strip() or any(ord(letter) < 32 for letter in path)


def _in_ascii(pair: str) -> str:
    """A host:port pair with its host as it is asked for on the wire."""
    host, _, port = pair.rpartition(":")
    try:
        return pair if pair.isascii() else f"{host.encode('idna').decode('ascii')}:{port}"
    except UnicodeError:
        return pair


def unknown_key(key: str, known: list[str], where: str) -> ConfigError:
    """The error for a key nobody reads, naming the nearest one that somebody does."""
    hint = nearest.word(key, known, f"known keys: {', '.join(sorted(known))}")
    return ConfigError(f'{where}: unknown key "{key}"', hint=hint)
