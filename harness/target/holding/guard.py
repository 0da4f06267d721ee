"""A helper process that puts a board into its resting state (`power.leave`) after the harness ends, even if it is
killed.

It reads from a pipe whose other end only the harness has open, so the kernel closes it when the harness ends. It also
holds the lock on the board, so that nobody can acquire a board that is about to be switched off."""

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
    """Return the environment for a process that takes care of a board after the harness has ended. When Jenkins kills a
    job, it kills every process whose environment has that job's values of these variables."""
    return {**os.environ, "BUILD_ID": "dontKillMe", "JENKINS_NODE_COOKIE": "dontKillMe"}


class Guard:
    """Watches over `board` until it is released."""

    def __init__(self, board: HeldBoard) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C reaches the harness only
            env=outliving(),
            # so that nobody acquires the board before it is off
            pass_fds=board.descriptors,
        )
        # over the pipe, because it may contain a password
        self._tell(pickle.dumps(board.power))

    def release(self) -> None:
        """End the guard: the board is off, or the caller will switch it off."""
        self._tell(_RELEASED)
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_LIMIT_S)

    def _tell(self, data: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError, ValueError):  # somebody killed the guard; the board is still ours
            self._process.stdin.write(data)
            self._process.stdin.flush()


@contextlib.contextmanager
def guarded(board: HeldBoard) -> Iterator[HeldBoard]:
    """Yield `board` for other processes of ours, which may come and go. One guard, started by this process, takes care
    of the board after the harness has ended, and holds its lease until then."""
    guard = Guard(board)
    try:
        yield dataclasses.replace(board, descriptors=(), is_guarded=True)
    except HarnessError:  # the process that used it has already released it
        raise
    except BaseException:
        put_back(board)
        raise
    finally:
        guard.release()


def put_back(board: HeldBoard) -> None:
    """Put a board whose process died into its resting state. If it can't be switched, the next boot reports that."""
    with contextlib.suppress(InfraError):
        leave(board.power, switch_of(board.power))


def main() -> None:
    power: BoardPower = pickle.load(sys.stdin.buffer)
    if sys.stdin.buffer.read(1) != _RELEASED:
        leave(power, switch_of(power))


if __name__ == "__main__":
    main()
