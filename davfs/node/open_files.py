"""How many files this process may have open: each connection is one. Systems give few and let one ask for more."""

from __future__ import annotations

import logging
import resource

WANTED = 16_384

log = logging.getLogger(__name__)


def allow() -> int:
    """Raise the soft limit as far as the hard one lets it be, up to ``WANTED``; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("only %d files can be open: %s", soft, error)
        return soft
    return wanted
