"""Calls: values and blobs, errors, limits, retries, restarts."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from davfs.core.errors import (
    CallTimeout,
    DavfsError,
    InvalidInput,
    NotHolder,
    StaleEpoch,
    Unreachable,
)
from davfs.rpc.pool import FAIL_FAST


def echo(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
    return {"peer": peer, "args": args}, blob


def test_values_blobs_and_the_callers_name(nodes) -> None:
    nodes.serve("b", {"echo": echo})
    args = {"text": "é", "bytes": b"\0\xff", "list": [1, None, True, 2.5], "map": {"k": {"n": -(2**40)}}, "pair": (1, 2)}
    value, blob = nodes.client("a").call("b", "echo", args, b"data")
    assert value == {"peer": "a", "args": {**args, "pair": [1, 2]}}
    assert blob == b"data"
    assert type(blob) is bytes


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 65_537, 4 * 1024 * 1024, 8 * 1024 * 1024 + 1])
def test_blobs_of_every_size_both_ways(nodes, size: int) -> None:
    nodes.serve("b", {"echo": echo})
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    assert nodes.client().call("b", "echo", {}, memoryview(data))[1] == data


def test_many_calls_at_once_do_not_mix(nodes) -> None:
    nodes.serve("b", {"echo": echo}, max_threads=8)
    client = nodes.client()

    def one(number: int) -> bool:
        blob = number.to_bytes(4, "big") * (number % 5000)
        value, back = client.call("b", "echo", {"n": number}, blob, timeout=20)
        return value["args"]["n"] == number and back == blob

    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(one, range(600)))


def test_errors_arrive_as_what_they_were(nodes) -> None:
    def refuse(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
        raise StaleEpoch("sealed higher", epoch=[1, 7], odd=object())

    def fail(peer: str, args: dict[str, Any], blob: bytes) -> tuple[Any, bytes]:
        raise RuntimeError("secret")

    nodes.serve("b", {"refuse": refuse, "fail": fail, "unsayable": lambda *_: (object(), b""), "echo": echo})
    client = nodes.client()
    with pytest.raises(StaleEpoch, match="sealed higher") as refused:
        client.call("b", "refuse", {})
    assert "7" in str(refused.value.data["epoch"])
    for method in ("fail", "unsayable"):
        with pytest.raises(DavfsError) as failed:
            client.call("b", method, {})
        assert failed.value.code == "internal"
        assert "secret" not in failed.value.message
    with pytest.raises(InvalidInput, match="knows no method"):
        client.call("b", "nothing", {})
    assert client.call("b", "echo", {})[0]["peer"] == "a"


def test_plain_error_data_keeps_its_types(nodes) -> None:
    def refuse(*_: Any) -> tuple[Any, bytes]:
        raise NotHolder("look elsewhere", holder="node-2", epoch=[1, 7])

    nodes.serve("b", {"refuse": refuse})
    with pytest.raises(NotHolder) as refused:
        nodes.client().call("b", "refuse", {})
    assert refused.value.data == {"holder": "node-2", "epoch": [1, 7]}


def test_arguments_that_cannot_be_sent_are_the_callers_fault(nodes) -> None:
    with pytest.raises((TypeError, ValueError)):
        nodes.client().call("b", "echo", {"x": object()})
    with pytest.raises(ValueError, match="too large"):
        nodes.client().call("b", "echo", {"x": 2**70})


def test_too_large_a_body_is_refused_and_the_server_lives(nodes) -> None:
    nodes.serve("b", {"echo": echo}, max_body=100_000)
    client = nodes.client()
    with pytest.raises((InvalidInput, Unreachable)):
        client.call("b", "echo", {}, bytes(300_000))
    assert client.call("b", "echo", {}, bytes(90_000))[1] == bytes(90_000)


def test_no_answer_in_time_is_an_unknown_outcome(nodes) -> None:
    release = threading.Event()
    nodes.serve("b", {"wait": lambda *_: (release.wait(5), b""), "echo": echo})
    client = nodes.client()
    start = time.monotonic()
    with pytest.raises(CallTimeout, match="unknown"):
        client.call("b", "wait", {}, timeout=0.2)
    assert 0.15 < time.monotonic() - start < 1.0
    release.set()
    assert client.call("b", "echo", {})[0]["peer"] == "a"


def test_nobody_listening_fails_fast_and_recovers(nodes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    nodes.addresses["b"] = ("127.0.0.1", port)
    client = nodes.client()
    assert client.up("b")
    with pytest.raises(Unreachable, match=str(port)):
        client.call("b", "echo", {})
    assert not client.up("b")
    start = time.monotonic()
    for _ in range(50):
        with pytest.raises(Unreachable):
            client.call("b", "echo", {})
    assert time.monotonic() - start < 0.2
    nodes.serve("b", {"echo": echo}, port=port)
    time.sleep(0.25)
    assert client.up("b")
    assert client.call("b", "echo", {})[0]["peer"] == "a"


def test_all_who_call_a_node_that_is_back_reach_it(nodes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    nodes.addresses["b"] = ("127.0.0.1", port)
    client = nodes.client()
    with pytest.raises(Unreachable):
        client.call("b", "echo", {})
    nodes.serve("b", {"echo": echo}, port=port)
    time.sleep(FAIL_FAST)
    start = threading.Barrier(8)

    def one(_: int) -> object:
        start.wait(5)
        return client.call("b", "echo", {})[0]["peer"]

    with ThreadPoolExecutor(8) as pool:  # one tries first; the others must not take the node for dead meanwhile
        assert list(pool.map(one, range(8))) == ["a"] * 8


def test_an_address_that_swallows_everything_costs_one_thread_only(nodes) -> None:
    """The connect is taken (by the backlog) and TLS never answered: one caller waits, the others fail at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nodes.addresses["b"] = silent.getsockname()
        client = nodes.client()
        with pytest.raises(Unreachable, match="in time"):
            client.call("b", "echo", {}, timeout=0.3)
        time.sleep(0.25)

        def one(_: int) -> float:
            start = time.monotonic()
            with pytest.raises(Unreachable):
                client.call("b", "echo", {}, timeout=0.4)
            return time.monotonic() - start

        with ThreadPoolExecutor(8) as pool:
            waits = sorted(pool.map(one, range(8)))
    assert waits[6] < 0.2 < waits[7]


def test_unknown_nodes_are_unreachable(nodes) -> None:
    with pytest.raises(Unreachable, match="no address"):
        nodes.client().call("nobody", "echo", {})


def test_a_restarted_peer_is_called_over_a_new_connection(nodes) -> None:
    server = nodes.serve("b", {"echo": echo})
    client = nodes.client()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: client.call("b", "echo", {"n": n}), range(30)))
    server.stop()
    nodes.serve("b", {"echo": echo}, port=server.port)
    assert client.call("b", "echo", {}, idempotent=False)[0]["peer"] == "a"


def test_stopping_lets_a_running_handler_answer(nodes) -> None:
    begun = threading.Event()

    def slow(*_: Any) -> tuple[Any, bytes]:
        begun.set()
        time.sleep(0.3)
        return "done", b""

    server = nodes.serve("b", {"slow": slow})
    client = nodes.client()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.call, "b", "slow", {})
        assert begun.wait(5)
        server.stop(3.0)
        assert answer.result(5) == ("done", b"")


class FickleServer:
    """Speaks by a script: on each connection in turn, how many requests to answer before it closes without a word."""

    def __init__(self, nodes: Any, name: str, script: list[int]) -> None:
        self.requests: list[int] = []  # one entry per request that was received whole: the connection's number
        self._context: ssl.SSLContext = nodes.identity(name).server
        self._listener = socket.create_server(("127.0.0.1", 0))
        nodes.addresses[name] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, args=(script,))
        self._thread.start()
        nodes.later(self.close)

    def _run(self, script: list[int]) -> None:
        for number, answers in enumerate(script):
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with self._context.wrap_socket(plain, server_side=True) as sock:
                for answered in range(answers + 1):
                    if not self._request(sock):
                        break
                    self.requests.append(number)
                    if answered < answers:
                        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\0\0\0\1\x07")

    @staticmethod
    def _request(sock: ssl.SSLSocket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < 5:
            piece = sock.recv(10_000)
            if not piece:
                return False
            data += piece
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def test_an_idempotent_call_is_sent_again_when_an_idle_connection_was_closed(nodes) -> None:
    server = FickleServer(nodes, "b", [1, 1])
    client = nodes.client()
    assert client.call("b", "m", {}) == (7, b"")
    assert client.call("b", "m", {}) == (7, b"")
    assert server.requests == [0, 0, 1]


def test_another_call_is_never_sent_again(nodes) -> None:
    server = FickleServer(nodes, "b", [1, 1])
    client = nodes.client()
    client.call("b", "m", {}, idempotent=False)
    with pytest.raises(CallTimeout, match="unknown"):
        client.call("b", "m", {}, idempotent=False)
    assert server.requests == [0, 0]


def test_on_a_new_connection_nothing_is_sent_again(nodes) -> None:
    server = FickleServer(nodes, "b", [0, 1])
    client = nodes.client()
    with pytest.raises(CallTimeout, match="unknown"):
        client.call("b", "m", {})
    assert server.requests == [0]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /rpc/v1/echo HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /elsewhere HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404),
        (b"POST /rpc/v1/echo HTTP/1.1\r\n\r\n", 411),
        (b"POST /rpc/v1/echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /rpc/v1/echo HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n", 413),
        (b"POST /rpc/v1/echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"POST /rpc/v1/echo HTTP/1.1\r\nContent-Length: 6\r\n\r\n\0\0\0\xffxx", 400),
        (b"POST /rpc/v1/echo HTTP/1.1\r\nContent-Length: 5\r\n\r\n\0\0\0\1\xc1", 400),
        (b"POST /rpc/v1/echo HTTP/1.1\r\nContent-Length: 5\r\n\r\n\0\0\0\1\x90", 400),
        (b"POST /rpc/v1/echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n\0\0\0\1\x80", 400),
        (b"POST /rpc/v1/echo HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 400),
        (b"POST /frames/v1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404),
    ],
)
def test_malformed_requests_are_refused_and_kill_nothing(nodes, request_bytes: bytes, status: int) -> None:
    server = nodes.serve("b", {"echo": echo}, max_threads=2)
    for _ in range(3):  # more than there are threads
        with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
            with nodes.identity("a").client.wrap_socket(plain, server_hostname="b") as sock:
                sock.settimeout(5)
                sock.sendall(request_bytes)
                answer = b""
                while piece := sock.recv(10_000):
                    answer += piece
        assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert nodes.client().call("b", "echo", {})[0]["peer"] == "a"


def test_a_request_that_breaks_off_is_not_run(nodes) -> None:
    called = []

    def touch(*_: Any) -> tuple[Any, bytes]:
        called.append(1)
        return None, b""

    server = nodes.serve("b", {"touch": touch})
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
        with nodes.identity("a").client.wrap_socket(plain, server_hostname="b") as sock:
            sock.sendall(b"POST /rpc/v1/touch HTTP/1.1\r\nContent-Length: 50\r\n\r\n\0\0\0\1\x80")
    time.sleep(0.1)
    assert called == []


def test_connections_are_kept_and_idle_ones_cost_no_thread(nodes) -> None:
    """Many idle connections, few threads: each still answers at once."""
    nodes.serve("b", {"echo": echo}, max_threads=3)
    clients = [nodes.client() for _ in range(12)]
    for client in clients:
        client.call("b", "echo", {})
    time.sleep(0.15)
    start = time.monotonic()
    for client in reversed(clients):
        client.call("b", "echo", {})
    assert time.monotonic() - start < 1.0
