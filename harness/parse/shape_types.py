"""The types of values in boards.yaml: numbers within bounds, and texts that are safe where they are used."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

import pydantic

from harness.model.names import NAME_PATTERN, NAME_RULE, is_name, is_path_of_names

_LONGEST_S = 86400.0  # a day; Python's timers refuse what is too large, and nobody waits longer for a board
_LONGEST_PAUSE_MS = 10_000.0
_LABEL = r"[A-Za-z0-9_:%\[\]-]{1,63}"
_HOST = rf"({_LABEL}(\.{_LABEL})*\.?)?"
_IPV4 = r"[0-9]{1,3}(\.[0-9]{1,3}){3}"
_MAC = r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}"
# without a login: http.client takes it for a part of the host, and it would be shown
_SWITCH_URL = r"https?://[A-Za-z0-9_.:\[\]-]+([/?][!-~]*)?"
_PATH_OF_NAMES = rf"{NAME_PATTERN}(/{NAME_PATTERN})*"

Seconds = Annotated[float, pydantic.Field(gt=0, le=_LONGEST_S, allow_inf_nan=False)]
Milliseconds = Annotated[float, pydantic.Field(ge=0, le=_LONGEST_PAUSE_MS, allow_inf_nan=False)]
Port = Annotated[int, pydantic.Field(ge=1, le=65535)]


def _matching(pattern: str, wanted: str) -> pydantic.AfterValidator:
    """`wanted` says in messages what is expected."""

    def checked(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(wanted)
        return text

    return pydantic.AfterValidator(checked)


def _is(parse: Callable[[str], object], wanted: str, text: str) -> str:
    try:
        parse(text)
    except ValueError:
        raise ValueError(wanted) from None
    return text


def _shown(pattern: str, example: str) -> pydantic.fields.FieldInfo:
    """What the schema shows of such a value. `example` also stands for one that is missing in the environment."""
    found: pydantic.fields.FieldInfo = pydantic.Field(
        examples=[example], json_schema_extra={"pattern": f"^({pattern})$"}
    )
    return found


def _with_port(text: str) -> str:
    """Check the host and port that a URL names, or a host. Linux takes a port that is too large for another one."""
    with contextlib.suppress(ValueError):
        port = urlsplit(text if "//" in text else f"//{text}").port
        if port is None or port > 0:
            return text
    with contextlib.suppress(ValueError):
        ipaddress.IPv6Address(text)
        return text
    raise ValueError("a host with a port from 1 to 65535, or without one")


def _latin(text: str) -> str:
    if not text.isascii() and text.encode("latin-1", "replace").decode("latin-1") != text:
        raise ValueError("a text in Latin-1, as HTTP has it")
    return text


def _file_name(text: str) -> str:
    if text and not is_name(text):
        raise ValueError(f"the name of a file without its directory, {NAME_RULE}")
    return text


def _fragment(text: str) -> str:
    if not PurePosixPath(text).is_absolute() and not is_path_of_names(text):
        raise ValueError(f"a file below kconfigs/ (each part of its path: {NAME_RULE}), or an absolute path")
    return text


def _address(text: str) -> str:
    wanted = "dhcp, or an IPv4 address with its prefix length such as 10.0.0.7/24"
    if text != "dhcp":
        if "/" not in text:
            raise ValueError(wanted)
        _is(ipaddress.IPv4Interface, wanted, text)
    return text


_PORT_FITS = pydantic.AfterValidator(_with_port)
Host = Annotated[str, _matching(_HOST, "a host's name or address"), _PORT_FITS, _shown(_HOST, "unset")]
"""A host; it may have a port, and it may be empty where that means something."""
IPv4 = Annotated[
    str,
    pydantic.AfterValidator(partial(_is, ipaddress.IPv4Address, "an IPv4 address such as 10.0.0.1")),
    _shown(_IPV4, "192.0.2.1"),
]
Address = Annotated[str, pydantic.AfterValidator(_address), _shown(rf"dhcp|{_IPV4}/[0-9]+", "dhcp")]
"""How a board gets its own address."""
Mac = Annotated[str, _matching(_MAC, "a MAC address such as 02:00:00:00:00:01"), _shown(_MAC, "02:00:00:00:00:01")]
FileName = Annotated[str, pydantic.AfterValidator(_file_name), _shown(f"({NAME_PATTERN})?", "unset")]
"""The name of a file in a directory that is known, or nothing."""
Fragment = Annotated[str, pydantic.AfterValidator(_fragment), _shown(f"/.*|{_PATH_OF_NAMES}", "unset")]
SwitchUrl = Annotated[
    str,
    _matching(_SWITCH_URL, "an http:// or https:// URL without a login (see `user` and `password`) and spaces"),
    _PORT_FITS,
    _shown(_SWITCH_URL, "http://192.0.2.1"),
]
# U-Boot knows no names without a DNS server, and its shell has a meaning for many a character
_HTTP_URL = rf"http://{_IPV4}(:[0-9]+)?(/[A-Za-z0-9_.~%+/-]*)?"
HttpUrl = Annotated[
    str, _matching(_HTTP_URL, "a URL such as http://10.0.0.1/boot"), _PORT_FITS, _shown(_HTTP_URL, "http://192.0.2.1")
]
_METHOD = "[A-Za-z]{1,20}"
HttpMethod = Annotated[str, _matching(_METHOD, "a method such as GET or PUT"), _shown(_METHOD, "GET")]
_TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
HeaderName = Annotated[str, _matching(_TOKEN, "the name of a header")]
HeaderValue = Annotated[str, pydantic.AfterValidator(_latin)]
