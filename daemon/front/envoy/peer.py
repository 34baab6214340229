"""Who asks over gRPC: what grpcio calls a peer, as an address."""

from urllib.parse import unquote


def peer_address(name: str) -> str:
    """Return the address in a peer's name, "" for a Unix socket.

    Names are `ipv4:127.0.0.1:50051`, `ipv6:%5B::1%5D:50051`, `unix:/path` (grpc.io, naming).
    """
    scheme, _, rest = name.partition(":")
    if scheme == "unix":
        return ""
    return unquote(rest).rpartition(":")[0].removeprefix("[").removesuffix("]") or "unknown"
