"""TLS for the public WebDAV listener: an ordinary https server context, no client certificates. Imports core only."""

from __future__ import annotations

import ssl
from pathlib import Path

from davfs.core.errors import ConfigError


def public_context(cert: Path, key: Path) -> ssl.SSLContext:
    """A server context for a PEM certificate (with its chain) and key; :class:`ConfigError` names what is wrong.

    TLS 1.2 is allowed: the WebDAV client of Windows 10 speaks no later one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(str(cert), str(key))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"dav.cert {cert} and dav.key {key} cannot be used: {error}") from error
    return context
