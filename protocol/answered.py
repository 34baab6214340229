"""The page in which a front notes what it has answered, for the shard to read when it is dead.

A front that is killed takes with it which of its requests were answered; the shard knows only what
it has charged. So each link has a page of memory that outlives the front: `SLOTS` 8-byte integers
of this machine. Requests on a link are numbered from 1. Just before an answer leaves, its request's
number is written into slot number modulo `SLOTS`. What has no note when the front is dead was never
answered, and what was charged for it is given back. A slot that a later request has taken over says
nothing any more; what was charged then stands.

The front hands the page over with its greeting, as descriptors: the page, and the reading end of a
pipe that nobody but the front holds open.
"""

from array import array

SLOTS = 16_384
LAST_SLOT = SLOTS - 1
PAGE_BYTES = 8 * SLOTS
DESCRIPTORS = 2


def is_answered(page: bytes, number: int) -> bool:
    """Return whether a page says, or may have said, that a request was answered."""
    at = 8 * (number & LAST_SLOT)
    return array("Q", page[at : at + 8])[0] >= number
