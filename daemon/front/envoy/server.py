"""The gRPC listener that Envoy asks at: bounded, and drained like the others."""

import socket
from collections.abc import Callable

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse

from adapters.envoy import check, ratelimit
from daemon.front.app import App
from daemon.front.envoy.asking import Asking
from daemon.settings import Settings

MESSAGE_SLACK = 1 << 20
"""Bytes of a question beside the body that it carries."""
STREAMS = 1024
"""Calls under way on one connection; Envoy's own default."""


class EnvoyServer:
    """Serves `Authorization/Check` and `RateLimitService/ShouldRateLimit` at one address.

    `address` is `host:port` or `unix:/path`. Calls beyond `max_connections` under way are answered
    RESOURCE_EXHAUSTED, connections beyond it are closed.
    """

    def __init__(
        self, app: App, settings: Settings, trusts: Callable[[str], bool], address: str
    ) -> None:
        self._address = address
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes + MESSAGE_SLACK),
                ("grpc.max_concurrent_streams", STREAMS),
                ("grpc.max_allowed_incoming_connections", settings.max_connections),
                ("grpc.max_metadata_size", settings.max_head_bytes),
            ],
            maximum_concurrent_rpcs=settings.max_connections,
        )
        # Questions are taken apart there: gRPC would log a traceback for each that is none.
        asking = Asking(app, settings, trusts)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    check.SERVICE,
                    {
                        check.METHOD: grpc.unary_unary_rpc_method_handler(
                            asking.check,
                            response_serializer=CheckResponse.SerializeToString,
                        )
                    },
                ),
                grpc.method_handlers_generic_handler(
                    ratelimit.SERVICE,
                    {
                        ratelimit.METHOD: grpc.unary_unary_rpc_method_handler(
                            asking.should_rate_limit,
                            response_serializer=RateLimitResponse.SerializeToString,
                        )
                    },
                ),
            )
        )

    @property
    def connections(self) -> int:
        """None: gRPC does not tell."""
        return 0

    async def listen(self, _sockets: list[socket.socket], _backlog: int, /) -> None:
        """Start to accept. gRPC binds by itself: it takes no sockets.

        Raises:
            OSError: the address cannot be had; the message names it and the variable.
        """
        try:
            self._server.add_insecure_port(self._address)
        except RuntimeError:  # all that grpcio says of it
            raise OSError(f"FAIRVISOR_ENVOY_LISTEN: {self._address} cannot be had") from None
        await self._server.start()

    async def drain(self, seconds: float) -> None:
        """Accept nothing new, answer what is under way, cut what takes longer than `seconds`."""
        await self._server.stop(seconds)
