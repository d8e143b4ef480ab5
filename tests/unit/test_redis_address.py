"""What `--redis-url` may say, and that nothing of a wrong one is shown."""

import pytest

from champion_gate.errors import BadInput
from champion_gate.redis_address import parsed


def test_one_server_is_named_as_redis_py_names_it():
    address = parsed("rediss://team:p%40ss%2Fword@redis.example:6380/2?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=no")
    assert (address.kind, address.tls, address.hosts) == ("one", True, (("redis.example", 6380),))
    assert address.options == {
        "db": 2,
        "username": "team",
        "password": "p@ss/word",
        "ssl_ca_certs": "/etc/ca.pem",
        "ssl_check_hostname": False,
    }
    assert set(address.secrets) == {"p%40ss%2Fword", "p@ss/word"}


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis://redis.example", (("redis.example", 6379),)),
        ("redis://redis.example/ \n", (("redis.example", 6379),)),
        ("redis://:secret@[::1]:7000", (("::1", 7000),)),
        ("REDIS://127.0.0.1/3?socket_timeout=2.5", (("127.0.0.1", 6379),)),
    ],
)
def test_what_may_be_left_out_is_left_out(url, hosts):
    assert parsed(url).hosts == hosts


def test_a_unix_socket_is_named_by_its_path():
    address = parsed("unix:///run/redis%20one.sock?db=4&password=s%2Bcret")
    assert (address.kind, address.path) == ("unix", "/run/redis one.sock")
    assert address.options == {"db": 4, "password": "s+cret"}
    assert address.shown == "/run/redis one.sock"
    assert "s+cret" in address.secrets


def test_sentinels_are_named_with_their_service_and_have_a_password_of_their_own():
    address = parsed("redis+sentinel://u:secret@s1:26380,s2/releases/1?sentinel_password=other")
    assert address.hosts == (("s1", 26380), ("s2", 26379))
    assert (address.service, address.options["db"]) == ("releases", 1)
    assert address.sentinel_options == {"password": "other"}
    assert {"secret", "other"} <= set(address.secrets)
    assert address.shown == "the service 'releases' behind Sentinel s1:26380, s2:26379"


def test_a_cluster_is_named_by_some_of_its_nodes():
    address = parsed("rediss+cluster://:secret@n1:7000,n2:7001/0")
    assert (address.kind, address.tls, address.hosts) == ("cluster", True, (("n1", 7000), ("n2", 7001)))
    assert address.options == {"password": "secret"}


@pytest.mark.parametrize(
    "url",
    [
        *("", "s3cr3t", "redis", "redis://", "redis:host", "http://:s3cr3t@host", "redis+other://s3cr3t@host/"),
        *(
            "redis://:s3cr3t/x@host",
            "redis://user:12/s3cr3t@host",
            "redis://:s3cr3t#x@host",
            "redis://:s3cr3t?x=y@host",
        ),
        *("redis://:s3@cr3t@host", "redis://:@host", "redis://user:@host", "redis://:s3cr3t@", "redis://:s3cr3t@/0"),
        *(
            "redis://host:s3cr3t",
            "redis://host:0x10",
            "redis://host:99999",
            "redis://host:0",
            "redis://host/s3cr3t",
            "redis://host/1/2",
        ),
        *(
            "redis://host/-1",
            "redis://host?db=s3cr3t",
            "redis://host?s3cr3t=1",
            "redis://host?db=1&db=2",
            "redis://host?db",
        ),
        *("redis://host?decode_responses=1", "redis://host?connection_class=s3cr3t", "redis://host?socket_timeout=nan"),
        *(
            "redis://host?ssl_cert_reqs=none",
            "rediss://host?ssl_cert_reqs=s3cr3t",
            "rediss://host?ssl_check_hostname=s3cr3t",
        ),
        *(
            "redis://host,s3cr3t",
            "redis://ho st",
            "redis://host\n::warning::s3cr3t",
            "redis://[::1",
            "redis://ho\u200bst",
        ),
        *("unix://s3cr3t/redis.sock", "unix://", "unix:///", "unix+cluster:///x", "rediss+unix:///x"),
        *("redis+sentinel://s1", "redis+sentinel://s1/", "redis+sentinel:///service", "redis+sentinel://s1/x/s3cr3t"),
        *("redis+cluster://n1/1", "redis+cluster://n1?db=s3cr3t", "redis+cluster://n1,,n2", "redis+cluster://"),
    ],
)
def test_what_is_no_address_is_refused_without_showing_any_of_it(url):
    with pytest.raises(BadInput, match="redis-url") as refused:
        parsed(url)
    assert "s3cr3t" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_secrets_are_no_part_of_what_is_printed():
    address = parsed("redis+sentinel://u:s3cr3t@s1/releases?sentinel_password=s3cr3t2")
    assert "s3cr3t" not in repr(address)
    assert "s3cr3t" not in address.shown
