"""The gateways that `fairvisor gateway` knows: which files each loads, what each can do.

A gateway is one line here, its files beside its dialect in `adapters/<folder>/`, a page in
docs/gateways/, and a line in tests/gateways/gateways.py, which makes it keep the contract.
"""

from dataclasses import dataclass
from typing import Final, Literal

OnFailure = Literal["closed", "open", "reads-open"]


@dataclass(frozen=True, slots=True)
class Gateway:
    """One way to put Fairvisor into a gateway.

    It `asks` at FAIRVISOR_LISTEN, or over gRPC at FAIRVISOR_ENVOY_LISTEN. `template` and
    `companions`, the files that the configuration loads, are in `adapters/<folder>/`; `words`
    choose lines of the template. `on_failure` lists what can happen while Fairvisor does not
    answer. Unless the gateway `waits`, the daemon holds a throttled request back, and the gateway
    has to allow it the time. `unix`: it can ask over a Unix socket; `remote`: it asks from
    elsewhere, at a URL. `sends_body`: the daemon gets the body of a request. `settles`: it is told
    what a provider's answer used. `tells_client`: the client of an allowed request gets the
    `RateLimit` fields.
    """

    name: str
    about: str
    folder: str
    template: str
    companions: tuple[str, ...] = ()
    on_failure: tuple[OnFailure, ...] = ("closed", "open")
    asks: Literal["http", "grpc"] = "http"
    waits: bool = False
    words: tuple[str, ...] = ()
    unix: bool = True
    remote: bool = False
    sends_body: bool = False
    settles: bool = False
    tells_client: bool = True


GATEWAYS: Final[tuple[Gateway, ...]] = (
    Gateway(
        name="nginx",
        about="nginx with auth_request: no module to install",
        folder="nginx",
        template="nginx.conf",
        on_failure=("closed", "open", "reads-open"),
    ),
    Gateway(
        name="nginx-lua",
        about="nginx with the Lua module: sends bodies, waits itself, settles LLM usage",
        folder="nginx",
        template="nginx-lua.conf",
        companions=("fairvisor.lua", "fairvisor_usage.lua"),
        on_failure=("closed", "open", "reads-open"),
        waits=True,
        sends_body=True,
        settles=True,
    ),
    Gateway(
        name="kong",
        about="Kong 3: a plugin that waits when throttled, sends the body and settles LLM usage",
        folder="kong",
        template="kong.yml",
        companions=tuple(
            f"kong/plugins/fairvisor/{module}.lua"
            for module in (
                "answer",
                "client",
                "handler",
                "question",
                "schema",
                "settlement",
                "usage",
            )
        ),
        on_failure=("closed", "open", "reads-open"),
        waits=True,
        sends_body=True,
        settles=True,
    ),
    Gateway(
        name="traefik",
        about="Traefik 3 with forwardAuth: no plugin to install, sends bodies",
        folder="traefik",
        template="fairvisor.yml",
        on_failure=("closed", "open", "reads-open"),
        unix=False,
        sends_body=True,
        tells_client=False,
    ),
    Gateway(
        name="caddy",
        about="Caddy 2: what forward_auth does, written out; no module to install",
        folder="caddy",
        template="Caddyfile",
        on_failure=("closed", "open", "reads-open"),
    ),
    Gateway(
        name="envoy",
        about="Envoy with HTTP ext_authz: sends bodies",
        folder="envoy",
        template="envoy.yaml",
        words=("http",),
        sends_body=True,
    ),
    Gateway(
        name="envoy-grpc",
        about="Envoy with gRPC ext_authz: sends bodies; dearer than HTTP",
        folder="envoy",
        template="envoy.yaml",
        asks="grpc",
        words=("grpc",),
        sends_body=True,
    ),
    Gateway(
        name="envoy-ratelimit",
        about="Envoy with its ratelimit service, for who has descriptors already",
        folder="envoy",
        template="envoy-ratelimit.yaml",
        asks="grpc",
    ),
    Gateway(
        name="haproxy",
        about="HAProxy with its Lua: waits itself",
        folder="haproxy",
        template="haproxy.cfg",
        companions=("fairvisor.lua",),
        on_failure=("closed", "open", "reads-open"),
        waits=True,
    ),
    Gateway(
        name="cloudflare",
        about="Cloudflare: a Worker before the origin",
        folder="cloudflare",
        template="wrangler.toml",
        companions=("worker.js",),
        on_failure=("closed", "open", "reads-open"),
        waits=True,
        unix=False,
        remote=True,
    ),
    Gateway(
        name="aws",
        about="Amazon API Gateway: a Lambda authorizer in Python or Node",
        folder="aws",
        template="template.yaml",
        companions=("authorizer.mjs", "authorizer.py"),
        on_failure=("closed", "open", "reads-open"),
        waits=True,
        unix=False,
        remote=True,
    ),
    Gateway(
        name="gcp",
        about="Google Cloud Run, API Gateway, ESPv2: a hook before a WSGI application",
        folder="gcp",
        template="env.yaml",
        companions=("hook.py",),
        on_failure=("closed", "open", "reads-open"),
        waits=True,
        unix=False,
        remote=True,
    ),
    Gateway(
        name="azure",
        about="Azure API Management: an inbound policy",
        folder="azure",
        template="policy.xml",
        on_failure=("closed", "open", "reads-open"),
        unix=False,
        remote=True,
    ),
)


def find(name: str) -> Gateway | None:
    """Return the gateway of that name, None if there is none."""
    return next((gateway for gateway in GATEWAYS if gateway.name == name), None)
