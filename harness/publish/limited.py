"""A time limit on talking to a server as a whole: those of the libraries are for each piece of an answer alone, and a
server may send one byte after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from harness.errors import InfraError

Answer = TypeVar("Answer")


def within(seconds: float, talk: Callable[[], Answer], *, late: str) -> Answer:
    """Return what `talk` returns, or raise what it raises. Raises InfraError with the message `late` if it takes
    longer; it then ends with this process."""
    answer: Future[Answer] = Future()

    def work() -> None:
        try:
            answer.set_result(talk())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="talk", daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError:
        if answer.done():  # the TimeoutError is its own, or it ended just now
            return answer.result()
        raise InfraError(late) from None
