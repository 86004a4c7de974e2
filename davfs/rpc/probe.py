"""Does a WebDAV server answer for a collection? One PROPFIND, as any client would send it. Imports core only."""

from __future__ import annotations

import base64
import http.client
import ssl
from urllib.parse import urlsplit

SERVED = 207
HELD = 423  # by a program: the node knows the volume, and serves it when the program is done
LOGIN_WANTED = 401


def probe(url: str, login: tuple[str, str] | None = None, timeout: float = 3.0) -> int | None:
    """The status of a PROPFIND with depth 0 of ``url``; None when nothing answers.

    The certificate of an https server is not checked: nothing is trusted to the answer but that there is one, and a
    ``login`` (name, password) is sent over http on loopback only.
    """
    parts = urlsplit(url)
    headers = {"Depth": "0", "Content-Length": "0"}
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        if login is not None and parts.hostname == "127.0.0.1":
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    try:
        connection.request("PROPFIND", parts.path or "/", headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
