"""What the supervisor and its children tell each other, as frames on a socket pair.

Supervisor to either
    [CONFIGURE, settings]                      once, before anything else
Supervisor to front
    [BUNDLE, generation, text, loaded_at, jwks]
                                               compile it and answer PREPARED; do not use it yet;
                                               `jwks` are documents by file name
    [SWITCH, generation]                       use it from now on and answer SWITCHED
    [COLLECT, number]                          answer [TALLY, number, snapshot]
    [METRICS, number, text]                    the answer to SCRAPE
    [DRAIN]                                    finish what is under way, then exit
Supervisor to shard
    [BUNDLE, generation, table, active]        install a rule table beside the active generation's
                                               and answer PREPARED
    [COLLECT, number]                          as above
    [BREAKERS, number]                         answer [TOLD, number, [open, more]] with `open` rows
                                               of identity, key, opened, resets (or None), and
                                               whether there may be more of them
    [RESET, number, identities, keys]          reset breakers by hand, of some keys or (None) all;
                                               answer [TOLD, number, how many were open]
    [SNAPSHOT]                                 write everything to the log: the database is new
    [DRAIN]                                    exit
Supervisor to keeper (of the stored counters)
    [COLLECT, number], [DRAIN]                 as above; fold everything, then exit
Keeper to supervisor
    [KEEPING, run, lost]                       the number of this run of the daemon, and whether the
                                               database had to be begun anew; READY follows
Child to supervisor
    [READY]                                    serving
    [PREPARED, generation], [SWITCHED, generation], [TALLY, number, snapshot],
    [TOLD, number, answer]
    [SCRAPE, number]                           a client asks this front for the metrics of all
    [NOTICE, level, line]                      something for the log
    [FAILED, line, traceback]                  why it ends by itself

End of file on the pair means that the other side is gone: a child then exits at once.
"""

from traceback import TracebackException

from protocol.frames import pack

READY = 0
CONFIGURE = 1
BUNDLE = 2
PREPARED = 3
SWITCH = 4
SWITCHED = 5
COLLECT = 6
TALLY = 7
SCRAPE = 8
METRICS = 9
DRAIN = 10
FAILED = 11
BREAKERS = 12
RESET = 13
TOLD = 14
NOTICE = 15
KEEPING = 16
SNAPSHOT = 17


def last_words(error: BaseException) -> bytes:
    """Return the frame in which a child says why it ends."""
    told = TracebackException.from_exception(error)
    line = "".join(told.format_exception_only()).strip().replace("\n", "; ")
    return pack([FAILED, line, "".join(told.format())])


def last_line(line: str) -> bytes:
    """Return the frame in which a child says why it ends, where that is no fault of its own."""
    return pack([FAILED, line, line])
