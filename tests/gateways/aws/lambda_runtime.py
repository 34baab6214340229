"""API Gateway and Lambda for a test: the events of one, the runtime of the other."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.end_with_us import ASKED
from tests.gateways.gateways import executable

HERE = Path(__file__).parent
LANGUAGES = ("python", "node")

Event = dict[str, Any]
Invoke = Callable[[Event], dict[str, Any]]

REST_ARN = "arn:aws:execute-api:eu-central-1:123456789012:abcdef/prod/GET/any/item"
HTTP_ARN = "arn:aws:execute-api:eu-central-1:123456789012:abcdef/$default/GET/any/item"


def rest(
    path: str = "/any/item",
    headers: dict[str, str] | None = None,
    method: str = "GET",
    query: dict[str, list[str]] | None = None,
    source: str = "198.51.100.1",
) -> Event:
    """Return the event of a REST API's REQUEST authorizer."""
    given = {"Host": "abcdef.execute-api.eu-central-1.amazonaws.com", **(headers or {})}
    return {
        "type": "REQUEST",
        "methodArn": REST_ARN,
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": given,
        "multiValueHeaders": {name: [value] for name, value in given.items()},
        "queryStringParameters": {name: values[-1] for name, values in (query or {}).items()}
        or None,
        "multiValueQueryStringParameters": query,
        "pathParameters": {"proxy": path[1:]},
        "stageVariables": None,
        "requestContext": {
            "path": f"/prod{path}",
            "httpMethod": method,
            "stage": "prod",
            "domainName": "shop.test",
            "identity": {"sourceIp": source, "userAgent": "curl/8"},
            "apiId": "abcdef",
        },
    }


def http(  # noqa: PLR0913 - what an event says
    path: str = "/any/item",
    headers: dict[str, str] | None = None,
    method: str = "GET",
    query: dict[str, list[str]] | None = None,
    source: str = "198.51.100.1",
    stage: str = "$default",
) -> Event:
    """Return the event of an HTTP API's authorizer, payload version 2.0."""
    pairs = [f"{name}={value}" for name, values in (query or {}).items() for value in values]
    return {
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": HTTP_ARN,
        "identitySource": None,
        "routeKey": "$default",
        "rawPath": path if stage == "$default" else f"/{stage}{path}",
        "rawQueryString": "&".join(pairs),
        "headers": {name.lower(): value for name, value in (headers or {}).items()},
        "requestContext": {
            "domainName": "shop.test",
            "stage": stage,
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": source,
                "userAgent": "curl/8",
            },
        },
    }


EVENTS = {"rest": rest, "http": http}


def allowed(answer: dict[str, Any]) -> bool:
    """Return what API Gateway makes of an answer of either form."""
    result = answer["result"]
    if "isAuthorized" in result:
        assert set(result) == {"isAuthorized", "context"}
        return bool(result["isAuthorized"])
    assert result["principalId"]
    (statement,) = result["policyDocument"]["Statement"]
    assert statement["Action"] == "execute-api:Invoke"
    assert statement["Resource"] in {REST_ARN, HTTP_ARN}
    assert statement["Effect"] in {"Allow", "Deny"}
    return bool(statement["Effect"] == "Allow")


def context(answer: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = answer["result"]["context"]
    assert all(isinstance(value, str) for value in found.values())  # API Gateway refuses others
    return found


@contextmanager
def function(language: str, folder: Path, **settings: str) -> Iterator[Invoke]:
    """Run a function in its own language, with the variables of the written template."""
    text = (folder / "template.yaml").read_text()
    variables = dict(re.findall(r'^ +(FAIRVISOR_\w+): "(.*)"$', text, re.MULTILINE))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FAIRVISOR_")}
    if language == "node":
        program = [executable("node", "Debian: apt-get install nodejs")]
    else:
        program = [sys.executable]
    suffix = "mjs" if language == "node" else "py"
    scripts = [str(HERE / f"invoke.{suffix}"), str(folder / f"authorizer.{suffix}")]
    with (folder / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            [*ASKED, *program, *scripts],
            env=environ | variables | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def invoke(event: Event) -> dict[str, Any]:
        stdin.write(json.dumps(event) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, (folder / "stderr").read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer

    try:
        yield invoke
    finally:
        stdin.close()
        process.wait(30)
        stdout.close()
