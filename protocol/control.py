"""What the supervisor and its children tell each other, as frames on a socket pair.

Supervisor to either
    [CONFIGURE, settings]                      once, before anything else
    [PING]                                     answer PONG
Supervisor to front
    [BUNDLE, generation, text, loaded_at, jwks]
                                               compile it and answer PREPARED; do not use it yet;
                                               `jwks` are documents by file name
    [SWITCH, generation]                       use it from now on and answer SWITCHED
    [COLLECT, number]                          answer [TALLY, number, snapshot]
    [METRICS, number, text]                    the answer to SCRAPE
    [READINESS, reason]                        why the daemon is not ready, "" if it is
    [RETIRE]                                   take nothing new; answer RETIRED when no decision is
                                               waited for, and hold later ones back until the
                                               shards have been replaced; then as DRAIN, for longer
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
    [TOLD, number, answer], [RETIRED]
    [SCRAPE, number]                           a client asks this front for the metrics of all
    [PONG]                                     it lives; also said now and then in long work
    [NOTICE, level, line]                      something for the log
    [FAILED, line, traceback]                  why it ends by itself

End of file on the pair means that the other side is gone: a child then exits at once. A shard
exits once it has heard of the ends of its fronts, which may have died without answering; the kernel
tells it of the supervisor's end by SIGUSR2, and kills all others.
"""

from traceback import extract_tb

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
PING = 18
PONG = 19
READINESS = 20
RETIRE = 21
RETIRED = 22


def last_words(error: BaseException) -> bytes:
    """Return the frame in which a child says why it ends.

    What the machine says of files, sockets and modules is repeated. The text of any other error may
    quote a request, so those are told by kind and place.
    """
    frames = extract_tb(error.__traceback__)
    line = type(error).__name__
    if isinstance(error, OSError | ImportError):
        line = f"{line}: {error}".replace("\n", "; ")
    elif frames:
        line = f"{line} at {frames[-1].filename}:{frames[-1].lineno}"
    return pack([FAILED, line, f"{line}\n{''.join(frames.format())}"])


def last_line(line: str) -> bytes:
    """Return the frame in which a child says why it ends, where that is no fault of its own."""
    return pack([FAILED, line, line])
