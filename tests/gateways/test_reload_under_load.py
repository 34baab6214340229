"""New bundles while requests come through the gateway: none is lost (§2.7)."""

import threading

from tests.gateways.bundles import CONTRACT
from tests.gateways.gateways import Subject
from tests.gateways.site import Serve, Site, replace_bundle, site

CLIENTS = 4
RELOADS = 4
PATIENCE = 60.0


def test_a_reload_loses_no_request(subject: Subject, serve: Serve) -> None:
    with site(
        subject,
        subject.ways[0],
        serve,
        CONTRACT,
        file_poll_interval=0.05,
        worker_processes=2,
        shards=2,
    ) as running:
        statuses = load_during_reloads(running)
    assert len(statuses) > CLIENTS * RELOADS
    assert set(statuses) == {200}
    assert len(running.service.at("/any/load")) == len(statuses)


def load_during_reloads(running: Site) -> list[int]:
    """Return the statuses of all requests that were sent while bundles changed."""
    stop = threading.Event()
    seen: list[list[int]] = [[] for _ in range(CLIENTS)]
    errors: list[BaseException] = []

    def load(found: list[int], key: str) -> None:
        try:
            with running.client() as client:
                while not stop.is_set():
                    found.append(client.ask("/any/load", {"X-Key": key}, "POST", b"{}").status)
        except OSError as error:
            errors.append(error)

    threads = [
        threading.Thread(target=load, args=(found, f"load-{number}"))
        for number, found in enumerate(seen)
    ]
    for thread in threads:
        thread.start()
    try:
        for version in range(2, 2 + RELOADS):
            replace_bundle(running, CONTRACT, version)
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert errors == []
    return [status for found in seen for status in found]
