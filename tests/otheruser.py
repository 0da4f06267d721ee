"""Another user of this host, in a child process: what a function does as that user."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

NOBODY = 65534


def as_nobody(function: Callable[[], Any]) -> Any:
    """Return what `function` returns, or raise what it raises, in a child that has become user nobody. Modules have to
    be imported beforehand: nobody may not read this user's. Skips the test where this process is not root."""
    if os.geteuid():
        pytest.skip("needs root, to become another user")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            answer: tuple[bool, Any] = (True, function())
        except BaseException as error:
            answer = (False, error)
        try:
            content = pickle.dumps(answer)
        except Exception:
            content = pickle.dumps((False, AssertionError(traceback.format_exc())))
        os.write(writer, content)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answers:  # noqa: PTH123 - a descriptor
        content = answers.read()
    os.waitpid(child, 0)
    returned, value = pickle.loads(content)
    if not returned:
        raise value
    return value
