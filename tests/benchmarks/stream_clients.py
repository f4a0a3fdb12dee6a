"""A program of clients that stream events until its standard input ends; one of them never reads."""

from __future__ import annotations

import selectors
import sys
from contextlib import ExitStack

from orchestree.supervisor.control.places import connect

REQUEST = b"GET /v1/events/stream HTTP/1.1\r\nHost: benchmark\r\n\r\n"


def main() -> None:
    """Stream from the socket ``argv[1]`` with ``argv[2]`` clients."""
    path, count = sys.argv[1], int(sys.argv[2])
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for number in range(count):
            client = stack.enter_context(connect(path))
            client.sendall(REQUEST)
            client.recv(1024)  # the answer has begun
            if number:
                client.setblocking(False)
                selector.register(client, selectors.EVENT_READ, client)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                if not key.data.recv(1 << 16):
                    raise ConnectionError("the orchestrator has ended a stream")


if __name__ == "__main__":
    main()
