"""What a front tells Python's garbage collector."""

import gc


def settle_garbage() -> None:
    """Keep what lives as long as the bundle out of the collector's rounds.

    A request leaves no circles behind, a connection one; walking the compiled bundle for them every
    few hundred requests cost 9 % of a front's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
