import pytest

from daemon.engine.routes import Routes
from protocol.bundle import Policy, Selector


def policy(name: str, **selector: object) -> Policy:
    return Policy(name, Selector(**selector))  # type: ignore[arg-type]


POLICIES = [
    policy("z-all", path_prefix="/"),
    policy("exact", path_exact="/v1/chat"),
    policy("v1", path_prefix="/v1/"),
    policy("both", path_exact="/v1", path_prefix="/v1/"),
    policy("post", path_prefix="/v2/", methods=frozenset({"POST"})),
    policy("host", path_prefix="/v2/", hosts=frozenset({"api.example"})),
    policy("Ä", path_exact="/ä"),
]


@pytest.mark.parametrize(
    ("method", "host", "path", "found"),
    [
        ("GET", "", "/", ["z-all"]),
        ("GET", "", "/v1/chat", ["both", "exact", "v1", "z-all"]),
        ("GET", "", "/v1/chat/", ["both", "v1", "z-all"]),
        ("GET", "", "/v1", ["both", "z-all"]),
        ("GET", "", "/v1/", ["both", "v1", "z-all"]),
        ("GET", "", "/v10/x", ["z-all"]),
        ("GET", "", "/V1/chat", ["z-all"]),
        # no spelling dodges a policy: as sent and in normal form
        ("GET", "", "/v1//chat", ["both", "exact", "v1", "z-all"]),
        ("GET", "", "/v1/./chat", ["both", "exact", "v1", "z-all"]),
        ("GET", "", "/x/../v1/chat", ["both", "exact", "v1", "z-all"]),
        ("GET", "", "/v1/%63hat", ["both", "exact", "v1", "z-all"]),
        ("GET", "", "/v1/../v3", ["both", "v1", "z-all"]),
        ("GET", "", "/%C3%A4", ["z-all", "Ä"]),
        ("POST", "", "/v2/x", ["post", "z-all"]),
        ("post", "", "/v2/x", ["z-all"]),
        ("GET", "API.example.:8080", "/v2/x", ["host", "z-all"]),
        ("GET", "other.example", "/v2/x", ["z-all"]),
        ("GET", "", "", ["z-all"]),
        ("GET", "", "no-slash", ["z-all"]),
    ],
)
def test_found(method: str, host: str, path: str, found: list[str]) -> None:
    routes = Routes(POLICIES)
    for _ in range(2):  # the second time from the cache
        assert [each.id for each in routes.find(method, host, path)] == found


def test_the_cache_is_bounded() -> None:
    routes = Routes(POLICIES)
    for number in range(10_000):
        routes.find("GET", "", f"/{number}")
    routes.find("GET", "", "/" + "x" * 10_000)
    assert len(routes._found) <= 4096
    assert not any(len(path) > 1000 for _, _, path in routes._found)
