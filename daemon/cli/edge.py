"""A running daemon, asked over HTTP; and the little of Prometheus text that `status` reads."""

from collections.abc import Iterator
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from daemon.cli.exits import RemoteFailure

TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 64 << 20


def fetch(url: str) -> tuple[int, str]:
    """Return the status and the text of a GET. Proxies of the environment are not asked.

    Raises:
        RemoteFailure: no connection, no answer in time, or no HTTP.
    """
    opener = build_opener(ProxyHandler({}))
    try:
        request = Request(url, headers={"Accept": "*/*"})  # noqa: S310 - the caller checks the scheme
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    except HTTPError as error:
        with error:
            return error.code, error.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    except URLError as error:
        raise RemoteFailure(f"{url} cannot be reached: {_reason(error.reason)}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise RemoteFailure(f"{url} cannot be reached: {_reason(error)}") from None


def samples(text: str, name: str) -> Iterator[float]:
    """Yield the values of a metric's samples, whatever their labels."""
    for line in text.splitlines():
        metric, _, value = line.rpartition(" ")
        if metric == name or metric.startswith(name + "{"):
            try:
                yield float(value)
            except ValueError:
                continue


def _reason(cause: object) -> str:
    if isinstance(cause, OSError):
        return cause.strerror or str(cause) or type(cause).__name__
    return str(cause) or type(cause).__name__
