"""A process beside the harness that leaves a board as `power.leave` has it when the harness is gone, however it went.

It waits at a pipe whose other end only the harness has; the kernel closes that with the harness. It holds the harness's
lock on the board too, so that nobody gets a board which is about to be switched off."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator

from harness.errors import HarnessError, InfraError
from harness.target.holding.held import HeldBoard
from harness.target.power import BoardPower, leave, switch_of

_RELEASED = b"."
_LIMIT_S = 5.0


def outliving() -> dict[str, str]:
    """The environment of a process that has to see to a board after our end. Jenkins, when it kills a job, kills every
    process that has the job's own values of these."""
    return {**os.environ, "BUILD_ID": "dontKillMe", "JENKINS_NODE_COOKIE": "dontKillMe"}


class Guard:
    """Watches over `board` until it is released."""

    def __init__(self, board: HeldBoard) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the harness
            env=outliving(),
            # so that the board is nobody else's before it is off
            pass_fds=board.descriptors,
        )
        # over the pipe, because it may hold a password
        self._tell(pickle.dumps(board.power))

    def release(self) -> None:
        """The board is off, or whoever is here will see to it; the guard ends."""
        self._tell(_RELEASED)
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_LIMIT_S)

    def _tell(self, data: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError, ValueError):  # somebody ended it; the board is still ours
            self._process.stdin.write(data)
            self._process.stdin.flush()


@contextlib.contextmanager
def guarded(board: HeldBoard) -> Iterator[HeldBoard]:
    """`board` as other processes of ours boot it, which may come and go: one guard, which is this process's, sees to it
    after our end, and holds what makes it ours."""
    guard = Guard(board)
    try:
        yield dataclasses.replace(board, descriptors=(), is_guarded=True)
    except HarnessError:  # whoever had it has left it
        raise
    except BaseException:
        put_back(board)
        raise
    finally:
        guard.release()


def put_back(board: HeldBoard) -> None:
    """Leave a board whose process died; that it can't be switched is told by the next boot."""
    with contextlib.suppress(InfraError):
        leave(board.power, switch_of(board.power))


def main() -> None:
    power: BoardPower = pickle.load(sys.stdin.buffer)
    if sys.stdin.buffer.read(1) != _RELEASED:
        leave(power, switch_of(power))


if __name__ == "__main__":
    main()
