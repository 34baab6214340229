"""What tests start ends with them, also when the test run is killed: put this before a command.

The kernel sends the signal when the thread that started the program ends (prctl(2),
PR_SET_PDEATHSIG): start what stays from the main thread. Programs that the program starts are its
own concern, so whoever has such children is asked (SIGTERM) rather than killed, unless they end
with it by themselves, as the daemon's do.
"""

KILLED = ("setpriv", "--pdeathsig", "KILL", "--")
ASKED = ("setpriv", "--pdeathsig", "TERM", "--")
