"""The configuration of a node as TOML text: the inverse of ``config.parse_config``. Imports core, config and its words."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from davfs.core.model import VolumePolicy
from davfs.dav.proxies import X_FORWARDED
from davfs.node.config import FORMAT, Limits, NodeConfig, format_address


def render(config: NodeConfig) -> str:
    """The file's text; paths inside the file's folder are written relative to it, so that the folder can be moved."""
    here = config.file.parent
    lines = [
        f"version = {FORMAT}",
        "",
        "[node]",
        _line("name", config.name),
        _line("data", _relative(config.data, here)),
        *([_line("joined", True)] if config.joined else []),
        "",
        "[dav]  # where people's file managers connect",
        _line("listen", format_address(config.dav.listen)),
        _line("anonymous", config.dav.anonymous),
    ]
    if config.dav.plain_http:
        lines.append(_line("plain_http", True))
    for key, path in (("cert", config.dav.cert), ("key", config.dav.key)):
        if path is not None:
            lines.append(_line(key, _relative(path, here)))
    if config.dav.external_names:
        lines.append(_line("external_names", list(config.dav.external_names)))
    if config.dav.trusted_proxies:
        lines.append(_line("trusted_proxies", list(config.dav.trusted_proxies)))
    if config.dav.proxy_headers != X_FORWARDED:
        lines.append(_line("proxy_headers", config.dav.proxy_headers))
    if config.dav.prefix:
        lines.append(_line("prefix", config.dav.prefix))
    for user in config.dav.users:
        lines += ["", "[[dav.user]]", _line("name", user.name), _line("password", user.password)]
    lines += [
        "",
        "[rpc]  # the other nodes",
        _line("listen", format_address(config.rpc.listen)),
        _line("cert", _relative(config.rpc.cert, here)),
        _line("key", _relative(config.rpc.key, here)),
        _line("ca", _relative(config.rpc.ca, here)),
        *([_line("authority", _relative(config.rpc.authority, here))] if config.rpc.authority else []),
        "",
        "[forward]  # requests that another node forwards",
        _line("listen", format_address(config.forward.listen)),
        *_limits(config.limits),
        "",
        "[cluster]  # the same on every node",
        _line("id", config.cluster.id),
        _line("token_ttl", config.cluster.token_ttl),
        _line("session_idle", config.cluster.session_idle),
        _line("certificate_days", config.cluster.certificate_days),
        _line("chunk_grace", config.cluster.chunk_grace),
        _line("chunk_quarantine", config.cluster.chunk_quarantine),
        "",
        "[cluster.defaults]  # the policy of new volumes",
        *(_line(item.name, getattr(config.cluster.defaults, item.name)) for item in fields(VolumePolicy)),
    ]
    for member in config.cluster.nodes:
        lines += [
            "",
            "[[cluster.nodes]]",
            _line("name", member.name),
            _line("rpc", format_address(member.rpc)),
            _line("forward", format_address(member.forward)),
            _line("dav", member.dav),
        ]
        if member.zone:
            lines.append(_line("zone", member.zone))
        if member.weight != 1.0:
            lines.append(_line("weight", member.weight))
    return "\n".join(lines) + "\n"


def _limits(limits: Limits) -> list[str]:
    """Only what differs from the defaults, so that a newer davfs can choose better ones."""
    usual = Limits()
    changed = [f.name for f in fields(Limits) if getattr(limits, f.name) != getattr(usual, f.name)]
    return ["", "[limits]", *(_line(name, getattr(limits, name)) for name in changed)] if changed else []


def _line(key: str, value: str | bool | float | list[str]) -> str:
    # A JSON string is a TOML basic string but for DEL, which JSON leaves as it is; numbers, flags and lists agree.
    return f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")


def _relative(path: Path, here: Path) -> str:
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
