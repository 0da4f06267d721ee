"""A minimal web client that requests one small file, as U-Boot would."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from harness.errors import InfraError

_LARGEST_BYTES = 512


def fetch(url: str, *, timeout: float = 3.0) -> bytes:
    """Fetch a file of at most 512 bytes. Redirects are not followed, and no proxy is used.

    Raises InfraError if the server does not answer within `timeout` seconds, or answers with anything but the file."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        content = answer.read(_LARGEST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise InfraError(f"{url}: no answer: {getattr(error, 'strerror', None) or error or type(error)}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise InfraError(f"{url}: the server answers: {answer.status} {answer.reason}")
    return content
