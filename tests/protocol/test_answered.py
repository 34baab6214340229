import pytest

from protocol.answered import LAST_SLOT, PAGE_BYTES, SLOTS, is_answered


@pytest.mark.parametrize(
    ("noted", "number", "answered"),
    [
        ({}, 1, False),
        ({1: 1}, 1, True),
        ({1: 1}, 2, False),
        ({5: 5}, 5 + SLOTS, False),  # the one before it in the slot was answered, it was not
        ({5: 5 + SLOTS}, 5, True),  # nobody knows any more, so it stands
        ({0: SLOTS}, SLOTS, True),
        ({7: 2**63 + 7}, 2**63 + 7, True),
    ],
)
def test_what_a_page_says(noted: dict[int, int], number: int, answered: bool) -> None:  # noqa: FBT001 - a table's column
    page = bytearray(PAGE_BYTES)
    slots = memoryview(page).cast("Q")
    for slot, value in noted.items():
        slots[slot & LAST_SLOT] = value
    assert is_answered(bytes(page), number) is answered
