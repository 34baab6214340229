"""Where a request goes in each proxy mode (behaviour §10.1, §10.4, §10.5). Pure.

| mode          | path                     | goes to                                          |
|---------------|--------------------------|--------------------------------------------------|
| reverse_proxy | any                      | the backend; with an LLM format, a leading       |
|               |                          | `/<provider>` of the same name is removed        |
| wrapper       | `/<provider>/…`          | the provider, prefix removed                     |
| hybrid        | `/<provider>/…`          | as wrapper; `/v1/decision`, `/v1/settle`: local  |
| both          | anything else            | nowhere: 404                                     |

In passthrough mode a client may also bring the key in the provider's own header, as vendors' SDKs
do. The client's credential itself never goes upstream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from daemon.engine.credentials import Credential, composite_credential, passthrough_credential
from daemon.front.inbound import Inbound
from daemon.front.upstream_headers import Headers, canonical
from daemon.llm.providers import PROVIDERS, Family, Provider, split_prefix
from daemon.upstream_url import UpstreamUrl
from protocol.paths import climbs

_AUTHORIZATION = b"authorization"


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """The settings of the proxy modes that say where a request goes."""

    mode: str
    backend: UpstreamUrl | None
    llm_format: str
    providers: Mapping[str, UpstreamUrl]
    passthrough: bool


class Route(msgspec.Struct, frozen=True):
    """One request's way: the upstream and the target to ask there, and what is known of its format.

    `headers` are what the engine may read; `raw` is what may go upstream and `key` the header to
    set there.
    """

    upstream: UpstreamUrl
    target: bytes
    headers: Mapping[bytes, bytes]
    raw: Sequence[tuple[bytes, bytes]]
    provider: str = ""
    family: Family | None = None
    usage_option: bool = False
    key: Sequence[tuple[bytes, bytes]] = ()

    def __repr__(self) -> str:
        """Show where it goes, and no header: there are keys among them."""
        return f"Route({self.upstream}, {self.target!r})"


@dataclass(frozen=True, slots=True)
class Refused:
    """No way: 404, 400 for a path that leads out of the upstream's, 401 as `family` has it."""

    status: int
    family: Family | None = None


def find_route(config: ProxyConfig, inbound: Inbound) -> Route | Refused:
    """Return where a request goes."""
    if config.mode == "reverse_proxy":
        return _to_backend(config, inbound)
    split = split_prefix(inbound.target.partition(b"?")[0].decode("latin-1"))
    if split is None:
        return Refused(404)
    provider = split[0]
    credential = _credential(config, provider, inbound)
    if credential is None:
        return Refused(401, provider.family)
    headers = dict(inbound.headers)
    headers.pop(_AUTHORIZATION, None)
    if credential.authorization is not None:
        headers[_AUTHORIZATION] = credential.authorization
    own = {_AUTHORIZATION, canonical(provider.key_header.encode())}
    key: Headers = []
    if provider.key_header and credential.upstream_key:
        value = provider.key_scheme.encode() + credential.upstream_key
        key.append((provider.key_header.encode(), value))
    upstream = config.providers[provider.name]
    target = _without_prefix(inbound.target, provider.name)
    if _leads_out(upstream, target):
        return Refused(400)
    return Route(
        upstream,
        _joined(upstream, target),
        headers,
        [header for header in inbound.raw if canonical(header[0]) not in own],
        provider.name,
        provider.family,
        provider.usage_option and provider.family == "openai",
        key,
    )


def _to_backend(config: ProxyConfig, inbound: Inbound) -> Route | Refused:
    upstream = config.backend
    if upstream is None:
        return Refused(404)
    target = inbound.target
    provider = PROVIDERS.get(config.llm_format)
    if provider is not None:
        split = split_prefix(target.partition(b"?")[0].decode("latin-1"))
        if split is not None and split[0].name == provider.name:
            target = _without_prefix(target, provider.name)
    if _leads_out(upstream, target):
        return Refused(400)
    if provider is None:
        return Route(upstream, _joined(upstream, target), inbound.headers, inbound.raw)
    return Route(
        upstream,
        _joined(upstream, target),
        inbound.headers,
        inbound.raw,
        family=provider.family,
        usage_option=provider.family == "openai",
    )


def _without_prefix(target: bytes, name: str) -> bytes:
    rest = target[1 + len(name) :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _leads_out(upstream: UpstreamUrl, target: bytes) -> bool:
    """Say whether an upstream may take what is asked for something beside its base path."""
    return bool(upstream.base_path) and climbs(target.partition(b"?")[0].decode("latin-1"))


def _joined(upstream: UpstreamUrl, target: bytes) -> bytes:
    if target == b"*":  # OPTIONS for the server as a whole
        return target
    return upstream.base_path.encode() + target


def _credential(config: ProxyConfig, provider: Provider, inbound: Inbound) -> Credential | None:
    authorization = inbound.headers.get(_AUTHORIZATION)
    if not config.passthrough:
        return composite_credential(authorization)
    own = inbound.headers.get(provider.key_header.encode())
    if provider.key_header != "authorization" and own:
        return Credential(None, own)
    credential = passthrough_credential(authorization)
    if credential is None and not provider.key_header:
        return Credential(None, b"")
    return credential
