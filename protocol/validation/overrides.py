"""What operators use in an incident: override blocks (§2.2) and kill switches (§6.1)."""

from protocol.bundle import KillSwitch, Override
from protocol.validation.fields import NON_EMPTY_TEXT, Fields, open_item
from protocol.validation.keys import canonical_key, key_fault
from protocol.validation.selectors import read_path

_LONGEST_REASON = 256


def read_override(document: Fields, name: str, now: float) -> Override | None:
    """Read an override block; None unless enabled. A disabled one may hold anything."""
    block = document.section(name)
    if block is None:
        return None
    enabled = block.boolean("enabled")
    block.names("reason", "expires_at")
    override = _enabled_override(block, now) if enabled else None
    block.close()
    return override


def _enabled_override(block: Fields, now: float) -> Override:
    reason = block.text("reason", words=f"{NON_EMPTY_TEXT} that says why")
    size = len(reason.encode())
    if size > _LONGEST_REASON:
        block.error(
            "reason", f"reason must be at most {_LONGEST_REASON} bytes of UTF-8; got {size}"
        )
    expires_at = block.timestamp("expires_at", required=True)
    refuse_past(block, "expires_at", expires_at, now)
    return Override(reason, expires_at or 0)


def refuse_past(fields: Fields, name: str, moment: int | None, now: float) -> None:
    """Record an error if a moment is not after `now`."""
    if moment is not None and moment <= now:
        fields.error(name, f"{name} has expired: {fields.raw(name)} is not in the future")


def read_kill_switches(document: Fields) -> tuple[KillSwitch, ...]:
    """Read the kill switches, in list order."""
    name = "kill_switches"
    switches = []
    values = document.array(name, "an array of kill switches", required=False)
    for index in range(len(values)):
        entry = open_item(values, index, document.at(name), "a kill switch", document.findings)
        if entry is not None:
            switches.append(_kill_switch(entry))
    return tuple(switches)


def _kill_switch(entry: Fields) -> KillSwitch:
    scope_key = canonical_key(entry.raw("scope_key"))
    if scope_key is None:
        entry.error("scope_key", key_fault("scope_key", entry.raw("scope_key")))
    switch = KillSwitch(
        scope_key=scope_key or "-",
        scope_value=entry.text("scope_value", shown=False),
        route=read_path(entry, "route"),
        reason=_operator_text(entry),
        expires_at=entry.timestamp("expires_at"),
    )
    entry.close()
    return switch


def _operator_text(entry: Fields) -> str | None:
    if not entry.has("reason"):
        return None
    # Unlike elsewhere an empty text is harmless here: it is only ever shown.
    return "" if entry.raw("reason") == "" else entry.text("reason", default="", words="a string")
