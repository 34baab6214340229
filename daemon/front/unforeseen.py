"""Errors that nobody caught are told by kind and place, like all others (see `trace`).

Python and the event loop would print their text, and the arguments of the callback that failed:
both may quote a request.
"""

import asyncio
import logging
import sys
import threading

from daemon.front.trace import place

log = logging.getLogger("fairvisor")


def tell_by_place(loop: asyncio.AbstractEventLoop) -> None:
    """Tell the errors of this process that nobody catches: in the loop, in threads, in clean-up."""
    loop.set_exception_handler(_in_loop)
    threading.excepthook = _in_thread
    sys.unraisablehook = _in_cleanup


def _in_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    _say(error if isinstance(error, BaseException) else None)


def _in_thread(about: threading.ExceptHookArgs) -> None:
    _say(about.exc_value)


def _in_cleanup(about: "sys.UnraisableHookArgs") -> None:
    _say(about.exc_value)


def _say(error: BaseException | None) -> None:
    if error is None:
        log.error("the event loop reports an error without an exception")
    else:
        log.error("%s that nobody has foreseen at %s", type(error).__name__, place(error))
