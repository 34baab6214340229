"""Any bytes as a shard's log: whole records or none, and nothing behind what is torn.

With an odd first byte the rest becomes the body of a record with a good checksum, so that the
fuzzer need not guess one.
"""

from contextlib import suppress
from zlib import crc32

import msgpack

from shard.stores.image import Image
from shard.stores.records import Records, encode


def one_input(data: bytes) -> None:
    """Read records, read less of them, and sum them up."""
    if not data:
        return
    log = data[1:]
    if data[0] % 2:
        log = len(log).to_bytes(4, "little") + crc32(log).to_bytes(4, "little") + log
    reader = Records(log)
    records = list(reader)
    assert 0 <= reader.end <= len(log)
    # killed in the middle of a write: what was whole before is whole still
    torn = Records(log[: reader.end - 1]) if reader.end else Records(log)
    assert list(torn) == records[: len(records) - bool(reader.end)]
    for record in records:
        with suppress(TypeError):  # a key may be what cannot be written
            assert msgpack.unpackb(encode(record)[8:], strict_map_key=False) is not None
    image = Image()
    with suppress(ValueError):
        image.add(records)
    for identity, counters in image.counters.items():
        for key in counters:
            with suppress(TypeError):
                image.state(identity, key, None)
