"""Does a WebDAV server answer for a collection? One PROPFIND, as any client would send it. Imports core only."""

from __future__ import annotations

from urllib.parse import urlsplit

import requests
import urllib3

SERVED = 207
HELD = 423  # by a program: the node knows the volume, and serves it when the program is done
LOGIN_WANTED = 401


def probe(url: str, login: tuple[str, str] | None = None, timeout: float = 3.0) -> int | None:
    """The status of a PROPFIND with depth 0 of ``url``; None when nothing answers in ``timeout`` seconds.

    The certificate of an https server is not checked: nothing is trusted to the answer but that there is one, and a
    ``login`` (name, password) is sent over http on loopback only.
    """
    parts = urlsplit(url)
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the docstring says why it is not checked
    with requests.Session() as session:
        session.trust_env = False  # no proxy and no .netrc comes between a machine and its own nodes
        session.verify = False
        if parts.scheme == "http" and parts.hostname == "127.0.0.1":
            session.auth = login
        try:
            with session.request(
                "PROPFIND", url, headers={"Depth": "0"}, timeout=timeout, allow_redirects=False, stream=True
            ) as answer:
                return answer.status_code
        except requests.RequestException:
            return None
