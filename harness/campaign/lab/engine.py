"""The door to dask.distributed, which joins a lab's machines: who is there, calls that return a value or say that the
other side is gone, encryption. What is done by whom, and whether it was done already, is ours.

Whoever can connect to a scheduler or a worker can have any program run there, because both unpickle what they get. So
an address that other hosts reach is used with TLS only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.campaign.lab.addresses import Address, Credentials
from harness.errors import HarnessError, InfraError, UserError
from harness.model.lab import Gone, Offer

_CONNECT_S = 30.0
_LOOK_S = 1.0  # between two looks at who is there
_CLOSE_S = 10.0
_SPARE_THREADS = 4  # besides one for each board, for builds and results on their way
_SETTINGS = {
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.allowed-failures": 0,  # a call is to one worker: its end is the call's
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.comm.timeouts.connect": f"{_CONNECT_S:.0f}s",
}


def _distributed() -> Any:
    """Return the library, set up as we need it. Raises UserError if it is missing."""
    try:
        import dask
        import distributed
    except ImportError as error:
        raise UserError(
            f"nights over many machines need the Python package dask.distributed, which is missing ({error}); install "
            "the extra: pip install '.[lab]'"
        ) from None
    dask.config.set(_SETTINGS)
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # we say what there is to say
    return distributed


def require() -> None:
    """Raise UserError if the library is missing."""
    _distributed()


def _security(tls: Credentials | None) -> Any:
    distributed = _distributed()
    if tls is None:
        return distributed.Security(require_encryption=False)
    for path in (tls.ca, tls.certificate, tls.key):
        if not path.is_file():
            raise UserError(f"--tls-ca, --tls-cert, --tls-key: expected a file at {path}, found none")
    roles = {
        f"tls_{role}_{kind}": str(path)
        for role in ("client", "scheduler", "worker")
        for kind, path in (("cert", tls.certificate), ("key", tls.key))
    }
    security = distributed.Security(tls_ca_file=str(tls.ca), require_encryption=True, **roles)
    try:
        security.get_connection_args("client")  # reads the files
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UserError(
            f"--tls-ca, --tls-cert, --tls-key: expected a certificate, its key and the authority's certificate in PEM "
            f"format, found: {error}"
        ) from None
    return security


def _url(address: Address, tls: Credentials | None) -> str:
    return f"{'tls' if tls else 'tcp'}://{address}"


# -- a loop of its own ------------------------------------------------------------------------------------------------


class _Loop:
    """An event loop in a thread, with the server that `begin` makes there; `closing`: arguments of its `close`."""

    def __init__(self, begin: Callable[[], Any], *, name: str, **closing: Any) -> None:
        self._begin = begin
        self._closing = closing
        self._ready: Future[Any] = Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ready(self) -> Any:
        """Wait for the server's start, and return it."""
        return self._ready.result()

    def join(self) -> None:
        """Wait until the server has ended."""
        self._thread.join()

    def close(self) -> None:
        """End it, within a limit."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        with contextlib.suppress(Exception):  # closing what is broken already
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = self._begin()
            await server
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(server)
        finished = asyncio.ensure_future(server.finished())
        await asyncio.wait({finished, asyncio.ensure_future(self._end.wait())}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait_for(server.close(**self._closing), _CLOSE_S)


@contextlib.contextmanager
def scheduling(address: Address, tls: Credentials | None) -> Iterator[Address]:
    """Run a scheduler at `address` (port 0: any) for the length of the ``with``; yields where it is. Raises InfraError
    if it can't be reached there."""
    distributed, security = _distributed(), _security(tls)

    def begin() -> Any:
        return distributed.Scheduler(
            host=address.host, port=address.port, protocol="tls" if tls else "tcp", security=security, dashboard=False,
            dashboard_address="127.0.0.1:0",
        )  # fmt: skip

    loop = _Loop(begin, name="scheduler")
    try:
        found = loop.ready()
    except Exception as error:
        raise InfraError(f"--listen {address}: expected to be able to listen there: {_reason(error)}") from None
    try:
        yield Address(host=address.host, port=int(found.port))
    finally:
        loop.close()


# -- workers ----------------------------------------------------------------------------------------------------------

_host: Any = None  # what calls are made on, in a worker's process


def _dispatch(method: str, arguments: tuple[Any, ...]) -> Any:
    """Runs in a worker's process."""
    if _host is None:
        raise InfraError("expected a process of `harness worker`, found another worker of dask.distributed")
    return getattr(_host, method)(*arguments)


class Membership:
    """A worker's connection to a scheduler: calls arrive at `host`, from several threads, until it is lost.

    `here`: where this worker listens, and is reached by the scheduler (port 0: any); None: on the interface through
    which the scheduler is reached. Raises InfraError if there is no connection."""

    def __init__(
        self, host: Any, scheduler: Address, tls: Credentials | None, *, boards: tuple[str, ...], here: Address | None,
        scratch: Path,
    ) -> None:  # fmt: skip
        global _host
        distributed, security = _distributed(), _security(tls)
        ours = here or _facing(scheduler)
        _host = host

        def begin() -> Any:
            return distributed.Worker(
                _url(scheduler, tls),
                name=f"{socket.gethostname()}-{secrets.token_hex(4)}",
                nthreads=len(boards) + _SPARE_THREADS,
                resources={_resource(board): 1 for board in boards},
                host=ours.host,
                port=ours.port,
                protocol="tls" if tls else "tcp",
                security=security,
                memory_limit=0,
                death_timeout=_CONNECT_S,
                dashboard=False,
                dashboard_address="127.0.0.1:0",
                local_directory=str(scratch),
            )

        self._loop = _Loop(begin, name="worker", executor_wait=False)
        try:
            self._loop.ready()
        except Exception as error:
            self._loop.close()
            raise InfraError(f"{scheduler}: expected a scheduler there: {_reason(error)}") from None

    def wait(self) -> None:
        """Wait until the connection is lost."""
        self._loop.join()

    def close(self) -> None:
        self._loop.close()


def _facing(scheduler: Address) -> Address:
    """The address of the interface through which `scheduler` is reached; by itself the library listens on all."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(scheduler.host, scheduler.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)  # sends nothing
            return Address(host=str(probe.getsockname()[0]), port=0)
    except OSError as error:
        raise InfraError(f"{scheduler}: expected a host that can be reached: {error.strerror}") from None


def _resource(board: str) -> str:
    return f"board {board}"


# -- the plan's process -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Member:
    """A worker that is there. `name`: of this process of it; `offer`: what it offered when it came."""

    address: str
    name: str
    offer: Offer


class Lab:
    """The workers of a scheduler, as a context manager. `say` gets who comes and goes."""

    def __init__(self, scheduler: Address, tls: Credentials | None, *, say: Callable[[str], None]) -> None:
        distributed = _distributed()
        self._say = say
        self._turn = threading.Condition()
        self._members: dict[str, Member] = {}
        self._waiting: dict[str, set[threading.Event]] = {}
        self._ignored: set[str] = set()
        self._is_closed = False
        try:
            self._client = distributed.Client(
                _url(scheduler, tls), security=_security(tls), timeout=_CONNECT_S, set_as_default=False, name="nightly"
            )
        except Exception as error:
            if isinstance(error, HarnessError):
                raise
            raise InfraError(f"{scheduler}: expected a scheduler there: {_reason(error)}") from None
        self._watcher = threading.Thread(target=self._watch, name="lab", daemon=True)
        self._watcher.start()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._is_closed = True
            for name in list(self._members):
                self._lose(name)
            self._turn.notify_all()
        self._watcher.join(_CLOSE_S)
        with contextlib.suppress(Exception):
            self._client.close(timeout=_CLOSE_S)

    def members(self) -> tuple[Member, ...]:
        """Who is there."""
        with self._turn:
            return tuple(self._members.values())

    def wait_until(self, condition: Callable[[], bool], limit: float) -> None:
        """Wait until a condition is true that may become so when somebody comes or goes, or after `wake`."""
        with self._turn:
            self._turn.wait_for(condition, limit)

    def wake(self) -> None:
        """Let those look again who wait."""
        with self._turn:
            self._turn.notify_all()

    def forget(self, member: Member) -> None:
        """A worker is of no use: end all calls to it. If it is there all the same, and answers, it counts again."""
        with self._turn:
            if self._members.get(member.name) == member:
                self._lose(member.name)
                self._turn.notify_all()

    def call(self, member: Member, method: str, *arguments: Any, limit: float | None, board: str = "") -> Any:
        """Have a worker call a method, and return what that returns. `board`: it uses this one, so other calls that do
        wait. Raises Gone if the worker is lost, or does not answer within `limit` seconds, and what the method
        raises."""
        answered = threading.Event()
        with self._turn:
            if self._members.get(member.name) != member:
                raise self._gone(member)
            self._waiting.setdefault(member.name, set()).add(answered)
        try:
            return self._called(member, method, arguments, answered, limit=limit, board=board)
        finally:
            with self._turn:
                self._waiting.get(member.name, set()).discard(answered)

    def _called(
        self, member: Member, method: str, arguments: tuple[Any, ...], answered: threading.Event, *,
        limit: float | None, board: str,
    ) -> Any:  # fmt: skip
        future = None
        try:
            future = self._submit(member.address, method, arguments, board=board)
            future.add_done_callback(lambda _: answered.set())
            if not answered.wait(limit):
                raise Gone(f"the worker on {member.offer.host} did not answer within {limit:.0f} s")
            if not future.done():
                raise self._gone(member)
            return future.result(timeout=_CONNECT_S)
        except HarnessError:
            raise
        except Exception as error:  # of the library, whatever it was: the worker's own are HarnessErrors
            if isinstance(error, _distributed().KilledWorker):
                raise self._gone(member) from error
            raise Gone(f"the worker on {member.offer.host} was lost: {_reason(error)}") from error
        finally:
            if future is not None:
                with contextlib.suppress(Exception):
                    future.release() if future.done() else future.cancel()

    def _submit(self, address: str, method: str, arguments: tuple[Any, ...], *, board: str = "") -> Any:
        return self._client.submit(
            _dispatch, method, arguments, key=f"{method}-{secrets.token_hex(12)}", pure=False, workers=[address],
            allow_other_workers=False, retries=0, resources={_resource(board): 1} if board else None,
        )  # fmt: skip

    @staticmethod
    def _gone(member: Member) -> Gone:
        return Gone(f"the worker on {member.offer.host} was lost")

    def _watch(self) -> None:
        while not self._is_closed:
            try:
                found = self._client.scheduler_info(n_workers=-1)["workers"]
            except Exception:  # no scheduler: nobody is there
                found = {}
            self._look({str(worker["name"]): address for address, worker in found.items()})
            with self._turn:
                self._turn.wait_for(lambda: self._is_closed, _LOOK_S)

    def _look(self, found: Mapping[str, str]) -> None:
        with self._turn:
            lost = [self._lose(name) for name in list(self._members) if name not in found]
            self._turn.notify_all()
            self._ignored &= found.keys()
            fresh = {name: address for name, address in found.items() if name not in {*self._members, *self._ignored}}
        for member in lost:
            self._say(f"the worker on {member.offer.host} is gone")
        for name, address in fresh.items():
            self._greet(name, address)

    def _lose(self, name: str) -> Member:
        """Take a worker off the list, and end all calls to it. The caller has the turn."""
        for answered in self._waiting.pop(name, ()):
            answered.set()
        return self._members.pop(name)

    def _greet(self, name: str, address: str) -> None:
        """Ask a new worker what it offers; it counts from then on."""
        try:
            future = self._submit(address, "offer", ())
            offer = future.result(timeout=_CONNECT_S)
        except HarnessError as error:
            self._say(f"{address}: left out: {error.message}")
            self._ignored.add(name)
            return
        except TimeoutError:  # the next look asks again
            return
        except Exception as error:  # another version of the harness, or none
            self._say(f"{address}: left out: it can't be asked what it offers: {_reason(error)}")
            self._ignored.add(name)
            return
        member = Member(address=address, name=name, offer=offer)
        with self._turn:
            self._members[name] = member
            self._turn.notify_all()
        boards = ", ".join(offer.boards) or "none"
        what = f"{offer.architecture}{' with KVM' if offer.kvm else ''}, {offer.cpus} CPUs, boards: {boards}"
        self._say(f"the worker on {offer.host} is there: {what}")


def _reason(error: BaseException) -> str:
    """What an exception of the library says, in one line."""
    inner = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    return " ".join(f"{inner or type(inner).__name__}".split())[:300]
