"""Configuration: what is read, and that every mistake is named."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from davfs.core.errors import ConfigError
from davfs.core.model import VolumePolicy
from davfs.core.passwords import hash_password
from davfs.node.config import (
    Limits,
    NodeConfig,
    User,
    check_policy,
    cluster_fingerprint,
    cluster_settings,
    difference,
    load_config,
    parse_config,
)
from davfs.node.render import render

FILE = Path("/cluster/node-1/davfs.toml")
HASH = hash_password("secret", b"0123456789abcdef")


def document() -> dict[str, Any]:
    return {
        "version": 1,
        "node": {"name": "node-1", "data": "data"},
        "cluster": {
            "id": "c0ffee",
            "nodes": [
                {
                    "name": f"node-{i}",
                    "rpc": f"127.0.0.1:{20000 + i}",
                    "forward": f"127.0.0.1:{21000 + i}",
                    "dav": f"http://127.0.0.1:{8080 + i}",
                }
                for i in (1, 2, 3)
            ],
        },
        "dav": {"listen": "127.0.0.1:8081", "anonymous": True},
        "rpc": {"listen": "127.0.0.1:20001", "cert": "tls/node.pem", "key": "tls/node.key", "ca": "tls/ca.pem"},
        "forward": {"listen": "127.0.0.1:21001"},
    }


def config() -> NodeConfig:
    return parse_config(document(), FILE)


def put(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        values = values[int(name)] if isinstance(values, list) else values.setdefault(name, {})
    values[last] = value


def test_paths_are_relative_to_the_file_and_defaults_are_the_designs() -> None:
    got = config()
    assert got.data == FILE.parent / "data"
    assert got.rpc.ca == FILE.parent / "tls/ca.pem"
    assert got.pid_file == FILE.parent / "pid"
    assert got.member.dav == "http://127.0.0.1:8081"
    assert got.cluster.token_ttl == 5.0
    assert got.cluster.defaults == VolumePolicy()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("nod", {}, "unknown key 'nod' (did you mean 'node'?)"),
        ("version", 2, "version: this davfs reads version 1, the file has 2"),
        ("version", True, "version: must be a whole number"),
        ("node.nam", "x", "unknown key 'node.nam' (did you mean 'name'?); allowed here: data, joined, name"),
        ("node.name", "node-9", "node.name: 'node-9' is not among cluster.nodes"),
        ("node.name", 7, "node.name: must be a text, not 7"),
        ("node.data", "", "node.data: must not be empty"),
        ("dav.lissten", "x", "unknown key 'dav.lissten' (did you mean 'listen'?)"),
        ("dav.listen", "8080", "dav.listen: must be HOST:PORT"),
        ("dav.listen", "127.0.0.1:99999", "dav.listen: must be HOST:PORT"),
        ("dav.anonymous", "yes", "dav.anonymous: must be true or false, not 'yes'"),
        ("dav.listen", "0.0.0.0:8080", "dav.anonymous: true is only for loopback"),
        ("dav.cert", "c.pem", "dav.key: is missing"),
        ("dav.trusted_proxies", ["10.0.0.9", "proxy.example"], "dav.trusted_proxies: 'proxy.example' is no address"),
        ("dav.trusted_proxies", ["10.0.0.9/8"], "dav.trusted_proxies: '10.0.0.9/8' is no address"),
        ("dav.proxy_headers", "both", "dav.proxy_headers: must be one of 'x-forwarded', 'forwarded'"),
        ("dav.prefix", "files", "dav.prefix: the prefix 'files' is no path such as /files"),
        ("cluster.certificate_days", 0, "cluster.certificate_days: must be a number from 0.0001 to 3650"),
        ("dav.user", [{"name": "a:b", "password": HASH}], "dav.user[0].name: must not have a colon"),
        ("dav.user", [{"name": "a", "password": "secret"}], "dav.user[0].password: a password hash looks like $argon2id"),
        ("dav.user", [{"name": "a"}], "dav.user[0].password: is missing"),
        ("dav.user", [{"name": "a", "password": HASH}] * 2, "dav.user[1].name: 'a' is listed twice"),
        ("dav.user", {"name": "a"}, "dav.user: must be a list of tables"),
        ("rpc", {"listen": "127.0.0.1:1"}, "rpc.cert: is missing"),
        ("cluster.token_ttl", 0, "cluster.token_ttl: must be a number from 0.5 to 3600"),
        ("cluster.nodes", [], "cluster.nodes: must list at least one node"),
        ("cluster.nodes.1.name", "node-1", "cluster.nodes[1].name: 'node-1' is listed twice"),
        ("cluster.nodes.1.name", "Node_2", "cluster.nodes[1].name: must be of a-z, 0-9 and '-'"),
        ("cluster.nodes.2.dav", "127.0.0.1:80", "cluster.nodes[2].dav: must be http://HOST:PORT"),
        ("cluster.nodes.0.port", 1, "unknown key 'cluster.nodes[0].port'"),
        ("cluster.defaults.copies", 4, "cluster.defaults.copies: is 4, but the cluster has only 3 nodes"),
        ("cluster.defaults.write_quorum", 4, "cluster.defaults.write_quorum: must be a whole number from 1 to 3"),
        ("cluster.defaults.consistency", "eventual", "must be one of 'strict', 'available', not 'eventual'"),
        ("cluster.defaults.chunk_size", 100, "cluster.defaults.chunk_size: must be a whole number from 4096"),
        ("limits.dav_thread", 4, "unknown key 'limits.dav_thread' (did you mean 'dav_threads'?)"),
        ("rpc.listen", "127.0.0.1:" + "9" * 5000, "rpc.listen: must be HOST:PORT"),
        ("limits.dav_threads", 0, "limits.dav_threads: must be a whole number from 1"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(key: str, value: Any, told: str) -> None:
    values = document()
    put(values, key, value)
    with pytest.raises(ConfigError) as caught:
        parse_config(values, FILE)
    assert caught.value.message.startswith(f"{FILE}: ")
    assert told in caught.value.message


def test_passwords_do_not_cross_a_network_in_the_clear_unless_a_proxy_ends_tls() -> None:
    values = document()
    values["dav"] = {"listen": "10.1.2.3:80", "user": [{"name": "a", "password": HASH}]}
    with pytest.raises(ConfigError, match="in the clear"):
        parse_config(values, FILE)
    values["dav"]["plain_http"] = True
    assert parse_config(values, FILE).dav.users == (User("a", HASH),)


def test_a_missing_or_broken_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("version = = 1")
    with pytest.raises(ConfigError, match=r"bad\.toml: cannot be read"):
        load_config(tmp_path / "bad.toml")


def test_a_small_cluster_has_as_many_copies_as_nodes() -> None:
    values = document()
    del values["cluster"]["nodes"][1:]
    policy = parse_config(values, FILE).cluster.defaults
    assert (policy.copies, policy.write_quorum, policy.replicas) == (1, 1, 1)


def test_a_volumes_policy_starts_from_the_clusters() -> None:
    cluster = replace(config().cluster, defaults=VolumePolicy(chunk_size=8192))
    assert check_policy(cluster, {}) == VolumePolicy(chunk_size=8192)
    assert check_policy(cluster, {"copies": 2}).write_quorum == 2
    assert check_policy(cluster, {"copies": 1}).write_quorum == 1
    with pytest.raises(ConfigError, match="unknown key 'chunks'"):
        check_policy(cluster, {"chunks": 1})


def test_what_is_rendered_reads_back_the_same() -> None:
    original = config()
    other = replace(original.cluster.nodes[2], zone="z", weight=2.0)
    rich = replace(
        original,
        dav=replace(
            original.dav,
            anonymous=False,
            users=(User('quo"te\\ü\x7f', HASH), User("b", HASH)),
            cert=FILE.parent / "c.pem",
            key=Path("/elsewhere/k.pem"),
            external_names=("https://files.example.org",),
            trusted_proxies=("10.0.0.9", "2001:db8::/32"),
            proxy_headers="forwarded",
            prefix="/files",
        ),
        cluster=replace(original.cluster, token_ttl=2.5, nodes=(*original.cluster.nodes[:2], other)),
        limits=Limits(dav_threads=7),
    )
    for each in (original, rich):
        assert parse_config(tomllib.loads(render(each)), FILE) == each


def test_nodes_that_agree_have_one_fingerprint_and_a_difference_is_told() -> None:
    one, values = config(), document()
    values["node"]["name"] = "node-2"
    values["dav"]["listen"] = "127.0.0.1:9999"
    two = parse_config(values, Path("/other/davfs.toml"))
    assert cluster_fingerprint(one) == cluster_fingerprint(two)
    assert difference(cluster_settings(one), cluster_settings(two)) == ""
    three = replace(one, cluster=replace(one.cluster, token_ttl=9.0))
    assert cluster_fingerprint(one) != cluster_fingerprint(three)
    assert difference(cluster_settings(one), cluster_settings(three)) == "cluster.token_ttl is 5.0 here and 9.0 there"
    assert "node-3" in difference(cluster_settings(one), {k: v for k, v in cluster_settings(one).items() if "node-3" not in k})
