"""Letting new nodes in: join tokens, and the one request that a machine makes with one.

Any node takes the request; a node that has the key of the cluster's authority signs (``davfs init`` and ``davfs dev`` put
it beside the nodes' folders; ``rpc.authority`` names another place), asked by the others over node-to-node HTTP.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import AlreadyExists, ConfigError, DavfsError, Forbidden, InvalidInput, Unavailable
from davfs.core.grants import JOINER, is_joiner
from davfs.core.model import NodeInfo
from davfs.node.admin import COMMAND_TIMEOUT, Handler, Raft
from davfs.node.config import NODE_NAME, NodeConfig, parse_address
from davfs.rpc import admission
from davfs.rpc.client import RpcClient
from davfs.rpc.identity import Peer, peer_of

Wsgi: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes | memoryview]]

SHORTEST_S, LONGEST_S = 60.0, 7 * 24 * 3600.0
SIGN_TIMEOUT = 3.0


class Admission:
    """The methods over one node's parts. ``new_id`` gives unguessable ids."""

    def __init__(
        self, config: NodeConfig, state: ClusterState, raft: Raft, client: RpcClient, new_id: Callable[[], str]
    ) -> None:
        self._config = config
        self._state = state
        self._raft = raft
        self._client = client
        self._new_id = new_id

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "admin.node_token": self._token,
            "node.join": self._join,
            "node.sign": self._sign,
        }

    # --- methods ----------------------------------------------------------------------------------------------------

    def _token(self, _peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """A new token, to join or (``renew``) for a new certificate of a node. Its text exists only in the answer: Raft
        keeps its id."""
        ttl = args.get("ttl")
        if not isinstance(ttl, (int, float)) or not SHORTEST_S <= ttl <= LONGEST_S:
            raise InvalidInput(f"a join token is good for {SHORTEST_S:g} to {LONGEST_S:g} seconds")
        if not admission.has_authority(self._config.authority):
            raise Unavailable(
                f"{self._config.name} does not have the key of the cluster's authority ({self._config.authority}): "
                "copy the cluster's folder `authority` there, or name its place as rpc.authority"
            )
        node = args.get("renew") or ""
        if not isinstance(node, str):
            raise InvalidInput("renew must be the name of a node")
        token_id = self._new_id()
        text = admission.make_token(self._config.authority, token_id, float(ttl))
        self._command(self._new_id(), "token_add", token_id, float(ttl), node)
        return {"token": text, "ttl": float(ttl), "nodes": self._members()}, b""

    def _join(self, peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """Admit the bearer of a token as a node: certificate, settings and the nodes that there are."""
        if not is_joiner(peer):
            raise Forbidden("joining needs a join token")
        token_id = peer.removeprefix(JOINER)
        info, host = _wanted(args)
        request = args.get("request")
        if not isinstance(request, bytes):
            raise InvalidInput("request must be the PEM of a request for a certificate")
        if info.name in [member.name for member in self._config.cluster.nodes]:  # which may not have started yet
            raise AlreadyExists(f"there is a node {info.name!r} already; choose another name")
        self._raft.barrier(COMMAND_TIMEOUT)
        # Told only after the token is spent for it.
        cert, authority = self._signed(token_id, info.name, host, request)
        request_id = f"join {token_id} {args.get('request_id')}"  # the same when the joiner asks again
        self._command(request_id, "node_admit", token_id, asdict(info))
        cluster = self._config.cluster
        settings = {
            "id": cluster.id,
            "token_ttl": cluster.token_ttl,
            "session_idle": cluster.session_idle,
            "certificate_days": cluster.certificate_days,
            "chunk_grace": cluster.chunk_grace,
            "chunk_quarantine": cluster.chunk_quarantine,
            "defaults": asdict(cluster.defaults),
            "anonymous": self._config.dav.anonymous,
            "users": [[user.name, user.password] for user in self._config.dav.users],
        }
        return {"cert": cert, "authority": authority, "settings": settings, "nodes": self._members()}, b""

    def _sign(self, _peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """Sign for another node, which has the request of a token's bearer and not the authority's key."""
        self._raft.barrier(COMMAND_TIMEOUT)
        token_id, name, host, request = (args.get(key) for key in ("token", "name", "host", "request"))
        if not isinstance(name, str) or not isinstance(host, str) or not isinstance(request, bytes):
            raise InvalidInput("token, name, host and request are wanted")
        if token_id not in self._state.membership.tokens and name not in self._state.membership.admitted:
            raise Forbidden("the join token was used already or has expired; make another with `davfs node token`")
        cert, authority = admission.sign_request(self._config.authority, name, host, request, self._life)
        return {"cert": cert, "authority": authority}, b""

    @property
    def _life(self) -> datetime.timedelta:
        return datetime.timedelta(days=self._config.cluster.certificate_days)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _signed(self, token_id: str, name: str, host: str, request: bytes) -> tuple[bytes, bytes]:
        if admission.has_authority(self._config.authority):
            return admission.sign_request(self._config.authority, name, host, request, self._life)
        troubles = []
        args = {"token": token_id, "name": name, "host": host, "request": request}
        for node in sorted(self._state.nodes):
            if node == self._config.name:
                continue
            try:
                value, _ = self._client.call(node, "node.sign", args, timeout=SIGN_TIMEOUT)
            except Forbidden:
                raise
            except DavfsError as error:
                troubles.append(f"{node}: {error.message}")
            else:
                return value["cert"], value["authority"]
        raise ConfigError("no node with the key of the cluster's authority could be asked. " + "; ".join(troubles))

    def _members(self) -> list[dict[str, Any]]:
        """The nodes as a file lists them."""
        listed = {member.name: member.info() for member in self._config.cluster.nodes}
        members = []
        for name, node in {**listed, **self._state.nodes}.items():
            where = listed.get(name, node)
            if name not in self._state.membership.removed:
                members.append({**asdict(node), "rpc": where.rpc, "forward": where.forward})
        return members

    def _command(self, request_id: str, verb: str, *arguments: Any) -> Any:
        return value_of(self._raft.submit((request_id, verb, *arguments), COMMAND_TIMEOUT))


def members_only(application: Wsgi, admit: Callable[[Peer], None]) -> Wsgi:
    """The application for forwarded requests, without those of a peer that ``admit`` refuses: its connection may be older
    than its removal, or than the end of its certificate."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes | memoryview]:
        try:
            if (peer := peer_of(environ.get("davfs.certificate"))) is None:
                raise Forbidden("forwarded requests come from nodes")
            admit(peer)
        except Forbidden:
            start_response("403 Forbidden", [("Content-Length", "0"), ("Connection", "close")])
            return []
        return application(environ, start_response)

    return answer


def _wanted(args: Mapping[str, Any]) -> tuple[NodeInfo, str]:
    """(the node that wants to join, the host that others reach it under), checked."""
    texts = {key: args.get(key) for key in ("name", "dav", "rpc", "forward", "zone")}
    if not all(isinstance(value, str) for value in texts.values()):
        raise InvalidInput("name, dav, rpc, forward and zone must be texts")
    name, dav, rpc, forward, zone = (str(value) for value in texts.values())
    if not NODE_NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no node name: use a-z, 0-9 and '-', at most 63 characters")
    parse_address(forward)
    info = NodeInfo(name, dav, zone, float(args.get("weight") or 1.0), "", rpc, forward)
    return info, parse_address(rpc)[0]
