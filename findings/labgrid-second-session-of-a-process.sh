#!/usr/bin/env bash
# A process that opens two of labgrid's client sessions to one coordinator gets only the first: the coordinator ends the
# second with an AssertionError that has no text, and the client says "Could not connect to coordinator", as if nobody
# were there. gRPC lets the channels of a process that have the same target and options share one TCP connection, and the
# coordinator tells its clients apart by the address of their connection (`assert peer not in self.clients`). The same can
# happen to sessions one after the other, as long as the first one's connection is still being closed. A channel of one's
# own with ("grpc.use_local_subchannel_pool", 1) helps.
#
# Seen with: labgrid 26.0.1, grpcio 1.85.3, Python 3.11. It printed:
#   first session:  connected
#   second session: ServerError: Error: Could not connect to coordinator
#   own connection: connected
# Exits with 0 as long as it behaves so. Needs python3 with venv.
set -euo pipefail
work=$(mktemp -d)
trap 'kill "$coordinator" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install labgrid==26.0.1 grpcio==1.85.3
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/labgrid-coordinator -l "127.0.0.1:$port" >coordinator.log 2>&1 &
coordinator=$!
cat > sessions.py <<'PYTHON'
import asyncio
import logging
import sys

import grpc
from labgrid.remote.client import ClientSession, ServerError
from labgrid.remote.generated.labgrid_coordinator_pb2_grpc import CoordinatorStub

logging.disable()


async def tell(who: str, address: str, *, alone: bool = False) -> None:
    session = ClientSession(address, asyncio.get_running_loop())
    if alone:
        session.channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        session.stub = CoordinatorStub(session.channel)
    try:
        await asyncio.wait_for(session.start(), 10)
        print(f"{who}: connected", flush=True)
    except ServerError as error:
        print(f"{who}: {type(error).__name__}: {error}", flush=True)


async def main() -> None:
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
    await tell("first session", sys.argv[1])
    await tell("second session", sys.argv[1])
    await tell("own connection", sys.argv[1], alone=True)


asyncio.run(main())
PYTHON
timeout 120 venv/bin/python sessions.py "127.0.0.1:$port" | tee seen
grep -q '^first session: connected$' seen
grep -q '^second session: ServerError: .*Could not connect to coordinator$' seen
grep -q '^own connection: connected$' seen
echo "as described: the second session of a process is refused"
