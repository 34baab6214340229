"""One connection as a play: what the client sends, what it is answered, when it is let go."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.front.http1 import LINGER_SECONDS, NEVER, HttpConnection
from daemon.front.inbound import Inbound

HOST = b"Host: a\r\n"
MAX_PIPELINED = 64
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
OK_END = OK + b"\r\n"
OK_CLOSE = OK + b"Connection: close\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def get(path: bytes = b"/", *lines: bytes) -> bytes:
    return b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Host: a", *lines, b"", b""))


class Bounds:
    max_head_bytes = 1024
    max_body_bytes = 64
    max_header_fields = 128
    max_pipelined = MAX_PIPELINED
    header_timeout = 10.0
    min_body_rate = 2
    send_timeout = 60.0
    idle_timeout = 75.0


class App:
    """Answers at once, or when the test says so."""

    verbatim = False

    def __init__(self) -> None:
        self.at_once = True
        self.seen: list[Inbound] = []
        self.unanswered: list[HttpConnection] = []
        self.error: Exception | None = None
        self.watcher: Upload | None = None

    def handle(self, connection: HttpConnection, inbound: Inbound) -> None:
        self.seen.append(inbound)
        if self.error is not None:
            raise self.error
        if self.at_once:
            connection.respond(OK)
        elif self.watcher is not None:
            connection.attach(self.watcher)
        else:
            self.unanswered.append(connection)

    @property
    def targets(self) -> list[bytes]:
        return [inbound.target for inbound in self.seen]


class Census:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.bodies = 0
        self.most = 1000

    def turned_away(self, reason: str, peer: str) -> None:
        raise AssertionError((reason, peer))  # the server's to tell

    def refused(self, why: str) -> None:
        self.told.append(why)

    def closed(self, why: str) -> None:
        self.told.append(why)

    def failed(self, error: Exception) -> None:
        self.told.append(repr(error))

    def keep(self, size: int) -> bool:
        if self.bodies + size > self.most:
            return False
        self.bodies += size
        return True

    def let_go(self, size: int) -> None:
        self.bodies -= size
        assert self.bodies >= 0


class Server:
    def __init__(self) -> None:
        self.app = App()
        self.bounds = Bounds()
        self.clock = 1000.0
        self.open: set[HttpConnection] = set()
        self.full = False
        self.census = Census()

    def opened(self, connection: HttpConnection, peer: str, *, trusted: bool) -> str:
        assert trusted is (peer == "")
        self.open.add(connection)
        return "too many connections" if self.full else ""

    def closed(self, connection: HttpConnection) -> None:
        self.open.discard(connection)

    def is_trusted(self, peer: str) -> bool:
        return peer == ""


class Transport(asyncio.Transport):
    """Remembers what is done to it, and is as unforgiving as the real one after a close."""

    def __init__(self, peer: object = ("192.0.2.1", 5), sock: socket.socket | None = None) -> None:
        super().__init__({"peername": peer, "socket": sock})
        self.sent = b""
        self.unflushed = 0
        self.reading = True
        self.half_closed = self.closed = self.aborted = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        assert not self.closed, "written after the end"
        assert not self.half_closed, "written after the end of our side"
        self.sent += data

    def write_eof(self) -> None:
        assert not self.closed
        self.half_closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert not self.closed
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closed
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unflushed


class Client:
    """Both ends of one connection."""

    def __init__(self, server: Server, peer: object = ("192.0.2.1", 5)) -> None:
        self.server = server
        self.connection = HttpConnection(server)
        self.transport = Transport(peer)
        self.connection.connection_made(self.transport)

    def send(self, *pieces: bytes) -> bytes:
        """Send; return what came back since the last call."""
        before = len(self.transport.sent)
        for piece in pieces:
            self.connection.data_received(piece)
        return self.transport.sent[before:]

    def answer(self, count: int = 1, head: bytes = OK, body: bytes = b"") -> bytes:
        """Have the app answer what waits; return the bytes of the answers."""
        before = len(self.transport.sent)
        for _ in range(count):
            self.server.app.unanswered.pop(0).respond(head, body)
        return self.transport.sent[before:]

    def pass_time(self, seconds: float) -> None:
        """Let the server's sweep come by after a while."""
        self.server.clock += seconds
        if self.connection.deadline <= self.server.clock:
            self.connection.deadline = NEVER
            self.connection.expire()

    def lose(self) -> None:
        self.connection.connection_lost(None)


@pytest.fixture(name="server")
def _server() -> Server:
    return Server()


@pytest.fixture(name="client")
def _client(server: Server) -> Client:
    return Client(server)


@pytest.fixture(name="later")
def _later(server: Server) -> Client:
    """Connect to an app that answers when told."""
    server.app.at_once = False
    return Client(server)


def refusal(status: bytes, reason: bytes) -> bytes:
    body = b'{"error":"%s"}' % reason
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"%sConnection: close\r\n\r\n%s"
        % (status, len(body), b"Retry-After: 1\r\n" * status.startswith(b"503"), body)
    )


MALFORMED = refusal(b"400 Bad Request", b"malformed request")
TIMEOUT = refusal(b"408 Request Timeout", b"request took too long to arrive")


def test_peers(server: Server) -> None:
    Client(server).send(get())
    Client(server, ("2001:db8::1", 5, 0, 0)).send(get())
    Client(server, "").send(get())
    peers = [(inbound.peer, inbound.trusted) for inbound in server.app.seen]
    assert peers == [("192.0.2.1", False), ("2001:db8::1", False), ("", True)]


def test_requests_one_after_the_other(client: Client) -> None:
    assert client.send(get(b"/1")) == OK_END
    assert client.send(get(b"/2")) == OK_END
    assert not client.transport.closed


def test_http_1_0(client: Client) -> None:
    text = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert client.send(text) == OK + b"Connection: keep-alive\r\n\r\n"
    assert client.send(b"GET / HTTP/1.0\r\n\r\n") == OK_CLOSE
    assert client.transport.closed


def test_connection_close(client: Client) -> None:
    assert client.send(get(b"/", b"Connection: close")) == OK_CLOSE
    assert client.transport.closed


def test_a_head_request_gets_no_body(later: Client) -> None:
    later.send(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert later.answer(head=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", body=b"hello") == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    )


def test_pipelined_requests_are_decided_one_at_a_time_and_answered_in_order(
    server: Server, later: Client
) -> None:
    assert later.send(get(b"/1") + get(b"/2") + get(b"/3", b"Connection: close")) == b""
    assert server.app.targets == [b"/1"]
    assert later.answer(head=b"HTTP/1.1 201 A\r\n") == b"HTTP/1.1 201 A\r\n\r\n"
    assert server.app.targets == [b"/1", b"/2"]
    assert later.answer(head=b"HTTP/1.1 202 B\r\n") == b"HTTP/1.1 202 B\r\n\r\n"
    assert later.answer() == OK_CLOSE
    assert later.transport.closed


def test_pipelining_up_to_the_bound(server: Server, later: Client) -> None:
    later.send(b"".join(get(b"/%d" % n) for n in range(MAX_PIPELINED + 1)))
    assert later.answer(MAX_PIPELINED + 1) == OK_END * (MAX_PIPELINED + 1)
    assert server.app.targets == [b"/%d" % n for n in range(MAX_PIPELINED + 1)]
    later.send(get())
    assert later.answer() == OK_END


def test_pipelining_beyond_the_bound_is_refused_after_what_was_taken(later: Client) -> None:
    later.send(get() * (MAX_PIPELINED + 3))
    assert later.answer(MAX_PIPELINED + 1) == OK_END * (MAX_PIPELINED + 1) + refusal(
        b"400 Bad Request", b"too many pipelined requests"
    )
    assert later.transport.half_closed


def test_pipelined_bodies_have_one_bound_together(later: Client) -> None:
    half = Bounds.max_body_bytes // 2
    text = b"POST / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (HOST, half, b"x" * half)
    later.send(get() + text + text)
    assert later.answer(2) == OK_END * 2
    later.send(text + text)  # the second of the first two is being decided
    assert later.answer(2) == OK_END * 2
    later.send(text + text + text)
    assert later.answer(3) == OK_END * 3 + refusal(
        b"400 Bad Request", b"too many pipelined requests"
    )


def test_what_came_before_malformed_bytes_is_answered_first(server: Server, later: Client) -> None:
    later.send(get(b"/1") + get(b"/2") + b"nonsense\r\n\r\n" + get(b"/3"))
    assert later.answer(2) == OK_END * 2 + MALFORMED
    assert server.app.targets == [b"/1", b"/2"]
    assert later.transport.half_closed


def test_nothing_is_read_behind_a_refusal(server: Server, client: Client) -> None:
    assert client.send(b"nonsense\r\n\r\n", get()) == MALFORMED
    assert server.app.seen == []
    assert (client.transport.half_closed, client.transport.closed) == (True, False)
    client.pass_time(LINGER_SECONDS)
    assert client.transport.aborted


def test_a_refused_client_that_leaves_is_let_go_at_once(client: Client) -> None:
    client.send(b"nonsense\r\n\r\n")
    client.connection.eof_received()
    assert client.transport.closed


def test_bytes_behind_a_last_request_are_thrown_away(later: Client) -> None:
    later.send(get(b"/", b"Connection: close") + get())
    assert later.answer() == OK_CLOSE
    assert (later.transport.half_closed, later.transport.closed) == (True, False)


@pytest.mark.parametrize("at_once", [True, False])
def test_an_upgrade_is_answered_as_what_it_is_and_ends_the_connection(
    server: Server, *, at_once: bool
) -> None:
    server.app.at_once = at_once
    client = Client(server)
    sent = client.send(get(b"/", b"Connection: Upgrade", b"Upgrade: h2c") + b"\x00\x01\x02")
    assert (sent or client.answer()) == OK_CLOSE
    assert client.transport.closed or client.transport.half_closed


# 100 Continue

EXPECTING = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"


def test_the_body_is_asked_for(client: Client) -> None:
    assert client.send(EXPECTING) == CONTINUE
    assert client.send(b"hi") == OK_END


def test_the_body_is_asked_for_when_its_turn_has_come(server: Server, later: Client) -> None:
    assert later.send(get() + EXPECTING) == b""
    assert later.answer() == OK_END + CONTINUE
    later.send(b"hi")
    assert later.answer() == OK_END
    assert server.app.seen[1].body == b"hi"


def test_the_body_is_not_asked_for_once_it_is_there(later: Client) -> None:
    later.send(get() + EXPECTING + b"hi")
    assert later.answer(2) == OK_END * 2
    later.send(get() + get() + b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n")
    assert later.answer(2) == OK_END * 2


def test_an_unknown_expectation(client: Client) -> None:
    sent = client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Expect: x\r\nContent-Length: 2\r\n\r\n")
    assert sent == refusal(b"417 Expectation Failed", b"unknown expectation")


# Time


def test_a_client_that_says_nothing_is_let_go_silently(client: Client) -> None:
    client.pass_time(Bounds.header_timeout - 0.1)
    assert not client.transport.closed
    client.pass_time(0.1)
    assert (client.transport.closed, client.transport.sent) == (True, b"")


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"GET /", id="target"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n", id="header"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n", id="body"),
    ],
)
def test_a_request_that_drips_has_one_deadline_for_all_of_it(client: Client, start: bytes) -> None:
    client.send(get())
    client.pass_time(50)
    client.send(start)
    for _ in range(9):
        client.pass_time(1)
        client.send(b"x")
    assert client.transport.sent == OK_END
    client.pass_time(1)
    assert client.transport.sent == OK_END + TIMEOUT
    assert client.transport.half_closed


def test_an_idle_connection_is_let_go_silently(client: Client) -> None:
    assert client.send(get()) == OK_END
    client.pass_time(Bounds.idle_timeout - 0.1)
    assert not client.transport.closed
    client.pass_time(0.1)
    assert (client.transport.closed, client.transport.sent) == (True, OK_END)


def test_a_connection_that_owes_no_answer_in_time_does_not_expire(later: Client) -> None:
    later.send(get())
    later.pass_time(1000)
    assert later.answer() == OK_END


def test_a_request_that_begins_during_an_answer_gets_its_time_after_it(later: Client) -> None:
    later.send(get() + b"GET / HTT")
    later.pass_time(1000)
    assert later.answer() == OK_END
    later.pass_time(Bounds.header_timeout - 0.1)
    assert not later.transport.half_closed
    later.pass_time(0.1)
    assert later.transport.sent == OK_END + TIMEOUT


# Clients that do not read


def test_nothing_is_read_from_a_client_that_does_not_read(client: Client) -> None:
    client.connection.pause_writing()
    assert not client.transport.reading
    client.connection.resume_writing()
    assert client.transport.reading


def test_a_client_that_never_reads_is_cut(client: Client) -> None:
    client.send(get())
    client.transport.unflushed = 1 << 20
    client.connection.pause_writing()
    client.pass_time(Bounds.idle_timeout)
    assert client.transport.aborted


def test_a_client_that_leaves_a_little_unread_is_cut(client: Client) -> None:
    client.send(get())
    client.transport.unflushed = 1
    client.pass_time(Bounds.idle_timeout)
    assert client.transport.aborted


def test_a_last_answer_that_is_not_read_does_not_hold_the_connection(client: Client) -> None:
    client.send(get(b"/", b"Connection: close"))
    assert (client.transport.closed, client.transport.aborted) == (True, False)
    client.connection.pause_writing()
    client.pass_time(Bounds.idle_timeout)
    assert client.transport.aborted


def test_a_refused_client_that_does_not_read_is_still_watched_for_its_end(client: Client) -> None:
    client.connection.pause_writing()
    client.send(b"nonsense\r\n\r\n")
    assert client.transport.reading
    client.connection.resume_writing()
    assert client.transport.reading


# Clients that leave


def test_a_half_closed_client_gets_its_answers(later: Client) -> None:
    later.send(get() + get())
    assert later.connection.eof_received() is True
    assert later.answer() == OK_END
    assert later.answer() == OK_CLOSE
    assert later.transport.closed


def test_a_half_closed_client_with_half_a_request(later: Client) -> None:
    later.send(get() + b"GET / HT")
    assert later.connection.eof_received() is True
    assert later.answer() == OK_CLOSE
    assert later.transport.closed


def test_a_half_closed_client_that_does_not_read_is_cut(later: Client) -> None:
    later.send(get())
    later.connection.eof_received()
    later.connection.pause_writing()
    later.connection.resume_writing()
    later.answer()
    later.transport.unflushed = 1
    later.pass_time(Bounds.idle_timeout)
    assert later.transport.aborted


def test_half_closed_after_nonsense(later: Client) -> None:
    later.send(get() + b"nonsense\r\n\r\n")
    assert later.connection.eof_received() is True
    assert later.answer() == OK_END + MALFORMED
    assert later.transport.closed


def test_an_idle_client_that_leaves_is_let_go(client: Client) -> None:
    client.send(get())
    assert client.connection.eof_received() is False
    assert client.transport.closed


class Delay:
    """Stands in for a timer."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.mark.parametrize(
    "leave", [lambda client: client.connection.eof_received(), lambda client: client.lose()]
)
def test_a_wait_ends_when_the_client_leaves(
    later: Client, leave: Callable[[Client], object]
) -> None:
    delay = Delay()
    later.send(get() + get())
    later.connection.wait(delay)  # type: ignore[arg-type]
    leave(later)
    assert delay.cancelled
    assert later.answer() == b""
    assert later.server.app.unanswered == []


def test_a_wait_that_is_over_is_forgotten(later: Client) -> None:
    delay = Delay()
    later.send(get() + get())
    later.connection.wait(delay)  # type: ignore[arg-type]
    assert later.answer() == OK_END
    later.connection.eof_received()
    assert not delay.cancelled
    assert later.answer() == OK_CLOSE


def test_answers_to_a_client_that_is_gone_go_nowhere(server: Server, later: Client) -> None:
    later.send(get() + get())
    before = later.connection.gone
    later.lose()
    assert (before, later.connection.gone) == (False, True)
    assert later.answer() == b""
    assert (server.open, server.app.unanswered) == (set(), [])


def test_an_answer_after_the_connection_was_cut_goes_nowhere(later: Client) -> None:
    later.send(get())
    later.connection.pause_writing()
    later.connection.deadline = 0.0
    later.pass_time(0)
    assert later.transport.aborted
    assert later.answer() == b""


# Too many connections


def test_a_connection_too_many_is_told_so(server: Server) -> None:
    server.full = True
    client = Client(server)
    assert client.transport.sent == refusal(b"503 Service Unavailable", b"too many connections")
    assert client.send(get()) == b""
    assert server.app.seen == []
    client.pass_time(LINGER_SECONDS)
    assert client.transport.aborted


# Drain


def test_the_last_answer_says_so(later: Client) -> None:
    later.send(get())
    later.connection.retire()
    later.connection.finish()
    assert later.answer() == OK_CLOSE
    assert later.transport.closed


def test_what_waits_is_answered_before_the_end(later: Client) -> None:
    later.send(get() + get())
    later.connection.retire()
    assert later.answer(2) == OK_END + OK_CLOSE


def test_what_is_arriving_is_answered_before_the_end(later: Client) -> None:
    later.send(get() + b"GET / HT")
    later.connection.retire()
    later.connection.finish()
    assert later.answer() == OK_END
    later.connection.finish()
    later.send(b"TP/1.1\r\n" + HOST + b"\r\n")
    assert later.answer() == OK_CLOSE
    assert later.transport.closed


def test_one_request_is_still_taken_from_an_idle_connection(client: Client) -> None:
    client.send(get())
    client.connection.retire()
    assert client.send(get() + get()) == OK_CLOSE


def test_idle_connections_are_closed(client: Client) -> None:
    client.send(get())
    client.connection.finish()
    client.connection.finish()
    assert client.transport.closed


def test_what_takes_too_long_is_cut(later: Client) -> None:
    later.send(get())
    later.connection.cut()
    later.connection.cut()
    assert later.transport.aborted
    assert later.answer() == b""


# Faults


def test_a_fault_of_the_app_is_answered_and_told(server: Server, client: Client) -> None:
    server.app.error = LookupError("boom")
    sent = client.send(get())
    assert sent.startswith(b"HTTP/1.1 503 ")
    assert b"X-Fairvisor-Reason: service_unavailable\r\n" in sent
    assert server.census.told == ["LookupError('boom')"]
    server.app.error = None
    assert client.send(get()) == OK_END


# Bounds that connections share, and what is told of them

UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n"


def test_a_body_that_keeps_up_may_take_its_time(server: Server, client: Client) -> None:
    client.send(UPLOAD)
    for _ in range(2):
        client.send(b"x" * 20)  # two a second for ten seconds
        client.pass_time(10)
        assert not client.transport.sent
    client.send(b"x" * 19)
    client.pass_time(10)
    assert client.transport.sent == TIMEOUT
    assert server.census.told == ["slow"]


def test_a_body_that_stops_after_a_quick_start_is_not_waited_for(client: Client) -> None:
    client.send(UPLOAD, b"x" * 50)
    client.pass_time(10)
    assert not client.transport.sent
    client.pass_time(10)
    assert client.transport.sent == TIMEOUT


class Upload:
    """A watcher that takes the rest of a body."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.taken = 0

    def client_gone(self) -> None:
        self.heard.append("gone")

    def client_full(self) -> None:
        self.heard.append("full")

    def client_drained(self) -> None:
        self.heard.append("drained")

    def upload(self, chunk: bytes) -> None:
        self.taken += len(chunk)

    def upload_ended(self) -> None:
        self.heard.append("ended")


@pytest.fixture(name="uploading")
def _uploading(server: Server) -> tuple[Client, Upload]:
    """Begin a body that is longer than what is kept, to an app that passes it on."""
    server.app.at_once = False
    server.app.verbatim = True
    watcher = Upload()
    server.app.watcher = watcher
    client = Client(server)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 70)
    assert watcher.taken == 70 - Bounds.max_body_bytes
    return client, watcher


def test_an_upload_that_drips_is_cut_and_one_that_keeps_up_is_not(
    server: Server, uploading: tuple[Client, Upload]
) -> None:
    client, watcher = uploading
    for _ in range(3):
        client.send(b"x" * 20)
        client.pass_time(10)
    assert not client.transport.closed
    for _ in range(9):
        client.send(b"x")
        client.pass_time(1)
    assert not client.transport.closed
    client.pass_time(1)
    assert client.transport.aborted
    assert (server.census.told, watcher.heard) == (["slow_body"], ["gone"])


def test_an_upload_that_was_held_has_a_deadline_again(uploading: tuple[Client, Upload]) -> None:
    client, _ = uploading
    client.connection.hold()
    client.pass_time(1000)
    assert not client.transport.closed
    client.connection.release()
    client.pass_time(10)  # what came before counts
    client.pass_time(10)
    assert client.transport.aborted


def test_an_answer_that_is_not_read_ends_the_connection(
    server: Server, uploading: tuple[Client, Upload]
) -> None:
    client, _ = uploading
    client.connection.pause_writing()
    client.pass_time(30)
    client.connection.resume_writing()
    client.send(b"x" * 20)
    client.pass_time(10)
    assert not client.transport.closed
    client.connection.pause_writing()
    client.pass_time(59)
    assert not client.transport.closed
    client.pass_time(1)
    assert client.transport.aborted
    assert server.census.told == ["unread"]


def test_bodies_of_all_connections_share_a_bound(server: Server, later: Client) -> None:
    server.census.most = 100
    later.send(UPLOAD + b"x" * 60)
    assert server.census.bodies == 60
    other = Client(server)
    other.send(UPLOAD, b"x" * 40)
    assert server.census.bodies == 100
    sent = other.send(b"x")
    assert sent == refusal(b"503 Service Unavailable", b"too many request bodies at once")
    assert server.census.told == ["bodies"]
    other.lose()
    assert server.census.bodies == 60
    later.answer()
    assert server.census.bodies == 0
    assert later.send(UPLOAD + b"x" * 60) == b""
    assert server.census.bodies == 60


def test_bodies_that_wait_their_turn_count_until_they_are_answered(
    server: Server, later: Client
) -> None:
    text = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234567890"
    later.send(text, text + text[:-4])
    assert server.census.bodies == 26
    later.answer()
    assert server.census.bodies == 16
    later.answer()
    assert server.census.bodies == 6
    later.send(b"7890")
    assert server.census.bodies == 10
    later.answer()
    assert server.census.bodies == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"nonsense\r\n\r\n", "malformed"),
        (get(b"/", b"X: " + b"x" * 2000), "head"),
        (get(b"/", *[b"X: y"] * 128), "head"),
    ],
)
def test_what_was_refused_is_told(server: Server, client: Client, text: bytes, why: str) -> None:
    client.send(text)
    assert server.census.told == [why]


def test_pipelining_and_idleness_are_told(server: Server, later: Client) -> None:
    later.send(get() * (MAX_PIPELINED + 3))
    idle = Client(server)
    idle.pass_time(10)
    assert server.census.told == ["pipelined", "idle"]


# Whatever arrives

PIECES = st.lists(
    st.sampled_from(
        [get(b"/1"), get(b"/2", b"Connection: close"), b"GET / HT", b"TP/1.1\r\nHost: a\r\n\r\n",
         EXPECTING, b"hi", b"\r\n", b"nonsense", b"HEAD / HTTP/1.0\r\n\r\n",
         get(b"/u", b"Connection: Upgrade", b"Upgrade: x")]
    )
    | st.binary(max_size=6),
    max_size=12,
)  # fmt: skip
ACTS = st.sampled_from(["answer", "pause", "resume", "eof", "retire", "finish", "time", "lose"])


def perform(client: Client, act: str | bytes) -> None:
    """Do what the loop or the server would do, if it still would."""
    connection, transport = client.connection, client.transport
    readable = transport.reading and not transport.closed
    if isinstance(act, bytes):
        if readable:
            client.send(act)
        return
    acts: dict[str, Callable[[], bytes | None]] = {
        "answer": lambda: client.answer(min(1, len(client.server.app.unanswered))),
        "pause": connection.pause_writing,
        "resume": connection.resume_writing,
        "retire": connection.retire,
        "finish": connection.finish,
        "time": lambda: client.pass_time(100),
        "eof": lambda: leave(client, readable=readable),
    }
    acts[act]()


def leave(client: Client, *, readable: bool) -> None:
    if not readable:
        return
    keep_open = client.connection.eof_received()
    client.transport.reading = False
    assert keep_open or client.transport.closed


@given(st.lists(PIECES.map(b"".join) | ACTS | st.just(UPLOAD + b"x" * 60), max_size=30))
def test_whatever_happens_an_answer_is_owed_or_the_client_has_a_deadline(
    acts: list[str | bytes],
) -> None:
    server = Server()
    server.app.at_once = False
    client = Client(server)
    for act in acts:
        if act == "lose":
            break
        perform(client, act)
        owed = bool(server.app.unanswered)
        assert owed or client.transport.aborted or client.connection.deadline < NEVER
    client.lose()
    assert server.census.bodies == 0
    sent = client.transport.sent
    assert sent.count(OK) <= len(server.app.seen)
    assert sent.replace(CONTINUE, b"").count(b"HTTP/1.1 ") <= len(server.app.seen) + 1
    assert sent.count(b"Connection: close") <= 1


def test_an_answer_leaves_at_once_and_is_noted_just_before() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.settimeout(0)
        server = Server()
        server.app.at_once = False
        connection = HttpConnection(server)
        transport = Transport(sock=ours)
        connection.connection_made(transport)
        noted: list[bytes] = []

        def note() -> None:
            with pytest.raises(BlockingIOError):
                theirs.recv(1)
            noted.append(transport.sent)

        connection.data_received(get())
        connection.respond(OK, b"", note)
        assert theirs.recv(1000) == OK_END
        assert noted == [b""]
        assert transport.sent == b""

        # what the socket does not take is the transport's to send, in full
        connection.data_received(get())
        body = b"x" * 4_000_000
        connection.respond(OK, body)
        came = b""
        while len(came) < len(body) - len(transport.sent) + len(OK_END):
            came += theirs.recv(65_536)
        assert came + transport.sent == OK_END + body
        assert transport.sent

        # what the transport still holds goes first
        transport.unflushed = 1
        transport.sent = b""
        connection.data_received(get())
        connection.respond(OK, b"", lambda: noted.append(b""))
        assert transport.sent == OK_END
        assert len(noted) == 2
        transport.unflushed = 0
        connection.data_received(get())
        connection.respond(OK)
        assert theirs.recv(1000) == OK_END
        assert transport.sent == OK_END

        # and a client that is gone does not stop the note
        theirs.close()
        connection.data_received(get())
        connection.respond(OK, b"", lambda: noted.append(b""))
        connection.connection_lost(None)
        connection.respond(OK, b"", lambda: noted.append(b""))
        assert len(noted) == 4
