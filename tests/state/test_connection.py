"""URLs of one server and of several, and LiteLLM's own settings as a URL."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis, RedisCluster

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.state import connect, store_kind
from litellm_plugin.state.litellm_settings import litellm_redis_url

SENTINELS = "redis+sentinel://user:s3cret%2F@s1.example:26380,s2.example,[::1]:26381/main/2"
CLUSTER = "redis+cluster://:s3cret%2F@c1.example:7001,c2.example,[::1]:7003"


@pytest.fixture
async def opened():
    clients = []

    def open_(url):
        clients.append(connect(url))
        return clients[-1]

    yield open_
    for client in clients:
        await client.aclose()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        pytest.param(None, "memory", id="none"),
        pytest.param("redis://h:1/0", "redis", id="server"),
        pytest.param("rediss://h:1/0", "redis", id="server-tls"),
        pytest.param("unix:///run/redis.sock", "redis", id="socket"),
        pytest.param(SENTINELS, "sentinel", id="sentinel"),
        pytest.param(CLUSTER.replace("redis+", "rediss+"), "cluster", id="cluster-tls"),
    ],
)
def test_a_url_says_what_kind_of_store_it_names(url, kind):
    assert store_kind(url) == kind


class TestSentinelUrls:
    async def test_the_sentinels_and_the_service_are_read(self, opened):
        pool = opened(SENTINELS).connection_pool
        asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
        nodes = [(options["host"], options["port"]) for options in asked]
        assert nodes == [("s1.example", 26380), ("s2.example", 26379), ("::1", 26381)]
        assert pool.service_name == "main"

    async def test_the_data_has_the_login_and_the_sentinels_have_their_own(self, opened):
        pool = opened(f"{SENTINELS}?sentinel_username=watch&sentinel_password=other").connection_pool
        sentinel = pool.sentinel_manager.sentinels[0].connection_pool.connection_kwargs
        data = pool.connection_kwargs
        assert (data["username"], data["password"], data["db"]) == ("user", "s3cret/", 2)
        assert (sentinel["username"], sentinel["password"]) == ("watch", "other")

    async def test_nothing_is_retried_and_every_wait_is_bounded(self, opened):
        pool = opened(SENTINELS).connection_pool
        sentinels = pool.sentinel_manager.sentinels
        for options in (
            pool.connection_kwargs,
            *(sentinel.connection_pool.connection_kwargs for sentinel in sentinels),
        ):
            assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.05, 0.05)
            assert options["retry"]._retries == 0
        assert (pool.timeout, pool.max_connections) == (0.05, 16)

    async def test_tls_is_for_the_data_and_the_sentinels(self, opened):
        url = SENTINELS.replace("redis+", "rediss+") + "?ssl_check_hostname=false"
        pool = opened(url).connection_pool
        sentinel = pool.sentinel_manager.sentinels[0].connection_pool
        assert "SSL" in pool.connection_class.__name__
        assert "SSL" in sentinel.connection_class.__name__
        assert pool.connection_kwargs["ssl_check_hostname"] is False
        assert sentinel.connection_kwargs["ssl_check_hostname"] is False


class TestClusterUrls:
    async def test_the_nodes_and_the_login_are_read(self, opened):
        client = opened(CLUSTER)
        nodes = [(node.host, node.port) for node in client.nodes_manager.startup_nodes.values()]
        assert nodes == [("c1.example", 7001), ("c2.example", 6379), ("::1", 7003)]
        assert client.get_connection_kwargs()["password"] == "s3cret/"

    async def test_nothing_is_retried_and_every_wait_is_bounded(self, opened):
        client = opened(CLUSTER)
        options = client.get_connection_kwargs()
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.05, 0.05)
        assert client.retry.get_retries() == 0


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis+sentinel://:s3cret@localhost", id="sentinel-without-service"),
        pytest.param("redis+sentinel://:s3cret@localhost/main/zero", id="sentinel-database"),
        pytest.param("redis+sentinel://:s3cret@localhost,/main", id="sentinel-empty-node"),
        pytest.param("redis+sentinel://:s3cret@localhost:x/main", id="sentinel-port"),
        pytest.param("redis+sentinel://:s3cret@localhost/main?socket_timeout=9", id="sentinel-timeout"),
        pytest.param("redis+sentinel://:s3cret@localhost/main#x", id="sentinel-fragment"),
        pytest.param("redis+sentinel://:s3cret@localhost/main?ssl_cert_reqs=none", id="sentinel-no-tls"),
        pytest.param("redis+cluster://:s3cret@", id="cluster-without-node"),
        pytest.param("redis+cluster://:s3cret@localhost/1", id="cluster-database"),
        pytest.param("redis+cluster://:s3cret@localhost?db=1", id="cluster-database-in-query"),
        pytest.param("redis+cluster://:s3cret@localhost?sentinel_password=s3cret", id="cluster-sentinel"),
        pytest.param("redis+cluster://:s3cret@localhost?ssl_cert_reqs=none", id="cluster-no-tls"),
        pytest.param("redis+cluster://user:s3cret/@localhost", id="cluster-unescaped-slash"),
        pytest.param("rediss+cluster://:s3cret@localhost?ssl_cert_reqs=s3cret", id="cluster-tls-option"),
        pytest.param("redis+other://:s3cret@localhost", id="other-kind"),
        pytest.param("redis+cluster://:s3cret@[::1", id="open-bracket"),
    ],
)
def test_any_other_url_is_refused_without_its_secret(url):
    with pytest.raises(ConfigurationError, match="where it stands: expected redis://") as caught:
        connect(url, source="where it stands")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


class TestLiteLlmSettings:
    @pytest.mark.parametrize(
        ("settings", "environment", "url"),
        [
            pytest.param({}, {}, None, id="none"),
            pytest.param({"type": "redis", "ttl": 60}, {}, None, id="no-server"),
            pytest.param({"host": "h", "port": 6380}, {}, "redis://h:6380/0", id="host"),
            pytest.param({"host": "h"}, {}, "redis://h:6379/0", id="default-port"),
            pytest.param(
                {"redis_host": "h", "redis_port": "1", "redis_password": "p/#"},
                {},
                "redis://:p%2F%23@h:1/0",
                id="router-settings",
            ),
            pytest.param(
                {"host": "h", "username": "u", "password": "p", "db": 2},
                {},
                "redis://u:p@h:6379/2",
                id="login",
            ),
            pytest.param(
                {"host": "h", "ssl": True, "ssl_check_hostname": False, "ssl_cert_reqs": "none"},
                {},
                "rediss://h:6379/0?ssl_check_hostname=false&ssl_cert_reqs=none",
                id="tls",
            ),
            pytest.param({"host": "h", "ssl": "False"}, {}, "redis://h:6379/0", id="no-tls"),
            pytest.param(
                {"url": "rediss://h/1?socket_timeout=9&ssl_cert_reqs=none", "host": "other"},
                {},
                "rediss://h/1?ssl_cert_reqs=none",
                id="url-without-bounds-of-its-own",
            ),
            pytest.param(
                {
                    "redis_startup_nodes": [{"host": "a", "port": 1}, {"host": "b", "port": "2"}],
                    "password": "p",
                },
                {},
                "redis+cluster://:p@a:1,b:2",
                id="cluster",
            ),
            pytest.param(
                {"sentinel_nodes": [["a", 1], ("b", 2)], "service_name": "main", "sentinel_password": "q"},
                {},
                "redis+sentinel://a:1,b:2/main/0?sentinel_password=q",
                id="sentinel",
            ),
            pytest.param(
                {"host": "os.environ/OWN", "password": "os.environ/UNSET"},
                {"OWN": "h"},
                "redis://h:6379/0",
                id="os-environ",
            ),
            pytest.param(
                {}, {"REDIS_HOST": "h", "REDIS_PORT": "1", "REDIS_SSL": "true"}, "rediss://h:1/0", id="env"
            ),
            pytest.param({"host": "h"}, {"REDIS_URL": "redis://other"}, "redis://h:6379/0", id="own-host"),
            pytest.param({}, {"REDIS_URL": "redis://other"}, "redis://other", id="env-url"),
            pytest.param(
                {},
                {"REDIS_CLUSTER_NODES": '[{"host": "a", "port": 1}]'},
                "redis+cluster://a:1",
                id="env-cluster",
            ),
            pytest.param(
                {},
                {"REDIS_SENTINEL_NODES": '[["::1", 1]]', "REDIS_SERVICE_NAME": "main"},
                "redis+sentinel://[::1]:1/main/0",
                id="env-sentinel",
            ),
        ],
    )
    async def test_they_are_read_as_litellm_reads_them(self, settings, environment, url, opened):
        assert litellm_redis_url(settings, environment) == url
        if url is not None:
            assert isinstance(opened(url), Redis | RedisCluster)

    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"startup_nodes": "s3cret"}, id="nodes-not-json"),
            pytest.param({"startup_nodes": ["s3cret"]}, id="nodes-not-mappings"),
            pytest.param({"startup_nodes": [{"host": "s3cret"}]}, id="node-without-port"),
            pytest.param({"sentinel_nodes": {"s3cret": 1}, "service_name": "m"}, id="sentinels-not-a-list"),
            pytest.param({"sentinel_nodes": [["s3cret"]], "service_name": "m"}, id="sentinel-without-port"),
            pytest.param({"host": "h", "gcp_service_account": "s3cret"}, id="gcp"),
            pytest.param({"host": "h", "aws_iam_auth": True}, id="aws"),
        ],
    )
    def test_what_cannot_be_used_is_refused_without_its_secret(self, settings):
        with pytest.raises(ConfigurationError, match="LiteLLM's Redis settings") as caught:
            litellm_redis_url(settings, {})
        assert "s3cret" not in str(caught.value)
