"""What a real server does to the exchange and its synchroniser; each test's id names its fault."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid

import pytest
from redis.asyncio import Redis
from tally import Tally
from tls_relay import TlsRelay
from valkey_process import ClusterNodeProcess, SentinelProcess, ValkeyProcess

from litellm_plugin.errors import StoreUnavailable
from litellm_plugin.state import RedisReplayStore, StoredRevocations, connect
from litellm_plugin.state.exchange import Batch, Contribution, HashChange, LeaseRequest
from litellm_plugin.state.redis_exchange import RedisExchange
from litellm_plugin.state.shared_clock import SharedClock
from litellm_plugin.state.sync import Synchroniser

LOGGER = "LiteLLM Proxy.permit_router"
PATIENT_S = 30.0
# A wait that the timeout of 50 ms ended; a wait that it did not end lasts as long as the fault.
SOON_S = 5.0


class Bench:
    """A synchroniser with one part before a server, and the operator's own client."""

    def __init__(self, url, *, timeout_s=PATIENT_S, prefix=None):
        self.prefix = prefix or f"test-{uuid.uuid4().hex}:"
        self.client = connect(url, timeout_s)
        self.exchange = RedisExchange(self.client, self.prefix, deadline_s=4 * timeout_s)
        self.part = Tally()
        self.worker = Synchroniser([self.part], self.exchange, uuid.uuid4().hex, SharedClock())

    def key(self, name):
        return f"{self.prefix}{{state}}:v1:{name}"

    async def count(self, amount=1):
        """Counts, makes a round and says whether the store answered."""
        self.part.count(amount)
        return await self.worker.round()

    async def count_soon(self):
        """The same, of a wait that must not last as long as the fault."""
        async with asyncio.timeout(SOON_S):
            return await self.count()

    async def recovered(self):
        """Goes round until the store answers again."""
        async with asyncio.timeout(60):
            while not await self.count():  # noqa: ASYNC110 - a server tells nobody that it is back
                await asyncio.sleep(0.05)

    async def aclose(self):
        await self.client.aclose()


@pytest.fixture
async def benches():
    async with contextlib.AsyncExitStack() as stack:

        def add(url, **options):
            bench = Bench(url, **options)
            stack.push_async_callback(bench.aclose)
            return bench

        yield add


@pytest.fixture
async def bench(benches, valkey):
    """Before the server that tests share: a patient one."""
    return benches(valkey.url)


@pytest.fixture
async def fragile(benches, own_valkey):
    """Before a server of one test, as patient as the plugin is in production, but for loaded machines."""
    return benches(own_valkey.url, timeout_s=0.25)


@pytest.fixture
async def operator(own_valkey):
    """The operator's client of a server of one test."""
    async with Redis.from_url(own_valkey.url) as client:
        yield client


@pytest.fixture
def lines(caplog):
    with caplog.at_level(logging.INFO, LOGGER):
        yield lambda: [record.message for record in caplog.records if record.name == LOGGER]


def contribution(key="counts"):
    return Contribution(
        changes=(HashChange(key, 600.0, {"a": 1}, {"b": "x"}),),
        reads=(key,),
        leases=(LeaseRequest(key, 100, 0, 10, ttl_s=600.0),),
    )


async def lost(exchange, given=None):
    with pytest.raises(StoreUnavailable) as caught:
        await exchange.exchange(Batch("w1", 1, given or contribution()))
    return caught.value


class TestLostServer:
    async def test_c01_down_at_start(self, benches, tmp_path, lines):
        server = ValkeyProcess(tmp_path)
        bench = benches(server.url, timeout_s=0.25)
        assert [await bench.count_soon() for _ in range(5)] == [False] * 5
        assert bench.part.losses == [False] * 5
        try:
            server.start()
            await bench.recovered()
            assert bench.part.total == bench.worker.health()["rounds"]
        finally:
            await bench.aclose()
            server.stop()
        assert len(lines()) == 2

    async def test_c02_killed_and_started_again(self, fragile, own_valkey, lines):
        assert await fragile.count()
        own_valkey.stop()
        assert [await fragile.count_soon() for _ in range(5)] == [False] * 5
        own_valkey.start()
        await fragile.recovered()
        assert len(lines()) == 2

    async def test_c03_a_server_that_hangs_is_not_waited_for(self, fragile, own_valkey, lines):
        assert await fragile.count()
        own_valkey.hang()
        try:
            assert [await fragile.count_soon() for _ in range(4)] == [False] * 4
        finally:
            own_valkey.go_on()
        assert fragile.part.losses[0] is True
        await fragile.recovered()
        assert len(lines()) == 2

    async def test_c03_what_a_server_that_hung_takes_late_changes_no_lease(self, fragile, own_valkey):
        assert await fragile.count()
        own_valkey.hang()
        try:
            for spent in (5, 7, 9):
                fragile.part.spent = spent
                await fragile.count_soon()
        finally:
            own_valkey.go_on()
        await fragile.recovered()
        fragile.part.spent = 1
        await fragile.recovered()
        assert fragile.part.lease.used == 10

    async def test_c04_a_slow_server_is_not_waited_for(self, benches, own_valkey, operator, lines):
        bench = benches(own_valkey.url, timeout_s=0.05)
        await bench.recovered()
        before = len(bench.part.losses)
        slow = asyncio.create_task(operator.execute_command("DEBUG", "SLEEP", "3"))
        await asyncio.sleep(0.2)
        began_s = time.monotonic()
        assert not await bench.count_soon()
        assert time.monotonic() - began_s < 2.5
        await slow
        await bench.recovered()
        assert len(bench.part.losses) > before

    async def test_c05_a_server_that_flaps(self, fragile, own_valkey, operator, lines):
        changes = 6
        for _ in range(changes):
            await fragile.recovered()
            own_valkey.stop()
            for _ in range(4):
                await fragile.count_soon()
            own_valkey.start()
        await fragile.recovered()
        assert len(lines()) <= 2 * changes
        assert len(await operator.client_list()) <= 4

    async def test_c05_each_round_makes_one_connection_at_most(self, fragile, own_valkey, operator):
        await fragile.count()
        before = (await operator.info("stats"))["total_connections_received"]
        for _ in range(20):
            await operator.client_kill_filter(_type="normal", skipme=True)
            await fragile.count()
        after = (await operator.info("stats"))["total_connections_received"]
        assert after - before <= 20


class TestSpoiledKeys:
    @pytest.mark.parametrize("name", ["counts", "lease:counts"])
    async def test_c06_a_key_of_another_type_is_skipped_and_overwritten(self, bench, name):
        await bench.client.set(bench.key(name), "foreign")
        first = await bench.exchange.exchange(Batch("w1", 1, contribution()))
        second = await bench.exchange.exchange(Batch("w1", 2, contribution()))
        assert (first.skipped, second.skipped) == (1, 0)
        assert second.hashes == {"counts": {"a": "2", "b": "x"}}
        assert second.leases["counts"].granted == 10

    async def test_c06_what_is_only_read_is_removed_too(self, bench):
        await bench.client.lpush(bench.key("list"), "x")
        reply = await bench.exchange.exchange(Batch("w1", 1, Contribution(reads=("list",))))
        assert (reply.hashes, reply.skipped) == ({"list": {}}, 1)
        assert not await bench.client.exists(bench.key("list"))

    async def test_c06_what_is_no_text_is_skipped_and_removed(self, bench):
        await bench.client.hset(bench.key("counts"), mapping={b"\xff": "1", "c": b"\xff", "d": "4"})
        replies = [await bench.exchange.exchange(Batch("w1", n, contribution())) for n in (1, 2)]
        assert replies[0].hashes["counts"] == {"a": "1", "b": "x", "d": "4"}
        assert [reply.skipped for reply in replies] == [1, 0]

    async def test_c06_what_is_overwritten_keeps_its_lifetime(self, bench):
        await bench.client.set(bench.key("counts"), "foreign")
        await bench.exchange.exchange(Batch("w1", 1, contribution()))
        assert 0 < await bench.client.ttl(bench.key("counts")) <= 600

    async def test_c06_a_foreign_lease_table_is_read_for_what_it_is(self, bench):
        table = {"w:other": "x y", "s:0": "many", "more": "text", b"\xff": b"\xff"}
        await bench.client.hset(bench.key("lease:counts"), mapping=table)
        reply = await bench.exchange.exchange(Batch("w1", 1, contribution()))
        assert (reply.leases["counts"].granted, reply.leases["counts"].held) == (10, 10)
        assert set(await bench.client.hkeys(bench.key("lease:counts"))) == {b"w:w1", b"s:0"}

    async def test_c15_another_versions_keys_are_left_alone(self, bench):
        other = bench.key("counts").replace(":v1:", ":v2:")
        await bench.client.set(other, "theirs")
        reply = await bench.exchange.exchange(Batch("w1", 1, contribution()))
        assert (reply.skipped, await bench.client.get(other)) == (0, b"theirs")

    async def test_every_key_has_one_hash_tag_and_ends(self, bench):
        await bench.exchange.exchange(Batch("w1", 1, contribution()))
        keys = [key async for key in bench.client.scan_iter(f"{bench.prefix}*")]
        assert len(keys) == 2
        assert all(b"{state}:v1:" in key for key in keys)
        assert all([await bench.client.ttl(key) > 0 for key in keys])

    def test_a_prefix_with_braces_is_refused(self, bench):
        with pytest.raises(ValueError, match="without braces"):
            RedisExchange(bench.client, "a{b}")


class TestRefusals:
    async def test_c07_a_server_without_room(self, fragile, operator, lines):
        assert await fragile.count()
        await operator.config_set("maxmemory", "1")
        await operator.config_set("maxmemory-policy", "noeviction")
        assert [await fragile.count_soon() for _ in range(4)] == [False] * 4
        assert fragile.part.losses == [False] * 4
        await operator.config_set("maxmemory", "0")
        await fragile.recovered()
        assert fragile.part.total == fragile.worker.health()["rounds"]
        assert len(lines()) == 2

    async def test_c08_c09_a_server_that_became_a_replica(self, fragile, operator, lines):
        assert await fragile.count()
        await operator.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert [await fragile.count_soon() for _ in range(4)] == [False] * 4
        assert fragile.part.losses == [False] * 4
        await operator.config_set("replica-serve-stale-data", "no")
        refused = await lost(fragile.exchange, Contribution(reads=("counts",)))
        assert ("MasterDownError" in str(refused), refused.was_sent) == (True, False)
        await operator.execute_command("REPLICAOF", "NO", "ONE")
        await fragile.recovered()
        assert fragile.part.total == fragile.worker.health()["rounds"]
        assert len(lines()) == 2

    async def test_c09_a_server_that_loads(self, fragile, own_valkey, operator):
        await operator.execute_command("DEBUG", "POPULATE", "20000", "filler", "100")
        await operator.save()
        await operator.connection_pool.disconnect()
        own_valkey.stop()
        own_valkey._options |= {"key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"}
        own_valkey.start()
        refused = await lost(fragile.exchange)
        assert ("LOADING" in str(refused) or "loading" in str(refused), refused.was_sent) == (True, False)
        await operator.config_set("key-load-delay", "0")
        await fragile.recovered()

    async def test_c09_a_cluster_that_is_down(self, benches, tmp_path):
        server = ClusterNodeProcess(tmp_path)
        try:
            server.start()
            refused = await lost(benches(server.url).exchange)
            assert ("CLUSTERDOWN" in str(refused) or "Hash slot" in str(refused), refused.was_sent) == (
                True,
                False,
            )
        finally:
            server.stop()

    async def test_c10_a_script_that_is_gone_is_loaded_again(self, fragile, operator):
        for _ in range(3):
            await operator.script_flush()
            assert await fragile.count()
            assert fragile.part.lease.granted == 10

    async def test_c10_c11_leases_go_on_where_scripts_are_forbidden(self, fragile, operator, lines):
        await operator.acl_setuser("default", commands=["-@scripting"], enabled=True)
        for spent in (0, 3, 4):
            fragile.part.spent = spent
            assert await fragile.count()
        assert (fragile.part.lease.granted, fragile.part.lease.used) == (10, 7)
        assert lines() == []

    async def test_c10_without_scripts_the_leases_of_all_stay_within_the_limit(
        self, benches, own_valkey, operator
    ):
        await operator.acl_setuser("default", commands=["-@scripting"], enabled=True)
        workers = [benches(own_valkey.url, prefix="shared:") for _ in range(12)]
        for worker in workers:
            worker.part._terms = (25, 10)
        for _ in range(3):
            await asyncio.gather(*(worker.count() for worker in workers))
        held = [worker.part.lease for worker in workers if worker.part.lease is not None]
        assert 0 < sum(lease.granted for lease in held) <= 25

    async def test_c10_c06_a_spoiled_table_is_overwritten_where_scripts_are_forbidden(
        self, fragile, operator
    ):
        await operator.acl_setuser("default", commands=["-@scripting"], enabled=True)
        await operator.set(fragile.key("lease:tally"), "foreign")
        await fragile.count()
        assert fragile.worker.health()["skipped"] == 1
        await fragile.count()
        assert fragile.part.lease.granted == 10

    async def test_c11_a_password_that_is_turned_on(self, fragile, operator, lines):
        assert await fragile.count()
        await operator.config_set("requirepass", "s3cret")
        await operator.execute_command("AUTH", "s3cret")
        await operator.client_kill_filter(_type="normal", skipme=True)
        assert [await fragile.count_soon() for _ in range(4)] == [False] * 4
        await operator.config_set("requirepass", "")
        await fragile.recovered()
        assert len(lines()) == 2

    async def test_c11_a_user_that_may_not_write(self, benches, own_valkey, operator):
        await operator.acl_setuser(
            "reader", enabled=True, nopass=True, keys=["*"], commands=["+@read", "+@connection", "+time"]
        )
        bench = benches(own_valkey.url.replace("redis://", "redis://reader:any@"))
        assert [await bench.count() for _ in range(2)] == [False] * 2
        assert bench.part.losses == [False] * 2

    async def test_a_named_user_and_its_keys_are_enough(self, benches, own_valkey, operator):
        commands = ["+@hash", "+@scripting", "+@keyspace", "+@connection", "+time"]
        await operator.acl_setuser(
            "router", enabled=True, passwords=["+s3cret"], keys=["permit-router:*"], commands=commands
        )
        bench = benches(own_valkey.url.replace("redis://", "redis://router:s3cret@"), prefix="permit-router:")
        assert await bench.count()
        assert bench.part.lease.granted == 10

    async def test_c12_everything_is_deleted(self, fragile, operator):
        await fragile.count(5)
        await operator.flushall()
        assert await fragile.count(2)
        assert (fragile.part.total, fragile.part.lease.granted) == (2, 10)


class TestConnections:
    async def test_c13_ten_thousand_batches_at_once_are_all_answered(self, bench):
        batches = [
            Batch(f"w{number}", 1, Contribution((HashChange("counts", 600.0, {"a": 1}),)))
            for number in range(10_000)
        ]
        exchange = RedisExchange(bench.client, bench.prefix, deadline_s=10 * PATIENT_S)
        await asyncio.gather(*map(exchange.exchange, batches))
        reply = await exchange.exchange(Batch("w", 1, Contribution(reads=("counts",))))
        assert reply.hashes["counts"] == {"a": "10000"}

    async def test_c16_a_cancelled_batch_leaves_no_reply_to_the_next(self, fragile, own_valkey):
        assert await fragile.count()
        for _ in range(20):
            own_valkey.hang()
            task = asyncio.create_task(fragile.exchange.exchange(Batch("w1", 1, contribution("cancelled"))))
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            task.cancel()
            own_valkey.go_on()
            with contextlib.suppress(asyncio.CancelledError, StoreUnavailable):
                await task
            assert await fragile.count()
            assert set(fragile.part.replies[-1][0].hashes) == {"tally"}

    async def test_c03_a_batch_ends_with_its_deadline(self, own_valkey, benches):
        bench = benches(own_valkey.url)
        exchange = RedisExchange(bench.client, bench.prefix, deadline_s=0.2)
        own_valkey.hang()
        try:
            async with asyncio.timeout(SOON_S):
                await lost(exchange)
        finally:
            own_valkey.go_on()


class TestTls:
    @pytest.fixture
    async def relay(self, valkey, tmp_path):
        relay = TlsRelay(tmp_path, valkey.port)
        await relay.start()
        yield relay
        await relay.aclose()

    async def test_a_server_behind_tls(self, benches, relay):
        bench = benches(relay.url)
        assert await bench.count()
        await bench.aclose()

    async def test_c11_a_certificate_that_expires(self, benches, relay, lines):
        bench = benches(relay.url)
        assert await bench.count()
        relay.certify(days=-1)
        relay.cut()
        other = benches(relay.url)
        assert [await other.count() for _ in range(4)] == [False] * 4
        assert other.part.losses == [False] * 4
        relay.certify(days=1)
        renewed = benches(relay.url)
        assert await renewed.count()
        for each in (bench, other, renewed):
            await each.aclose()
        assert len(lines()) == 1

    async def test_a_certificate_of_a_stranger_is_refused(self, benches, relay):
        bench = benches(relay.url.partition("?")[0])
        assert not await bench.count()
        await bench.aclose()


class TestSentinel:
    @pytest.fixture
    async def servers(self, tmp_path):
        folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
        for folder in folders:
            folder.mkdir()
        master = ValkeyProcess(folders[0])
        replica = ValkeyProcess(folders[1], replicaof=f"127.0.0.1 {master.port}")
        sentinel = SentinelProcess(folders[2], master.port)
        try:
            for server in (master, replica, sentinel):
                server.start()
            await self.until_known(sentinel)
            yield master, replica, sentinel
        finally:
            for server in (sentinel, replica, master):
                server.stop()

    async def until_known(self, sentinel):
        async with asyncio.timeout(60), Redis.from_url(sentinel.url) as client:
            while "ok" not in [  # noqa: ASYNC110 - a Sentinel tells nobody
                replica["master-link-status"] for replica in await client.sentinel_slaves("main")
            ]:
                await asyncio.sleep(0.1)

    async def test_c02_c08_the_new_master_is_found_after_a_failover(self, benches, servers, lines):
        master, _, sentinel = servers
        bench = benches(f"redis+sentinel://127.0.0.1:{sentinel.port}/main", timeout_s=0.5)
        assert await bench.count()
        master.stop()
        await bench.count_soon()
        await bench.recovered()
        assert bench.part.lease.granted == 10
        await bench.aclose()
        assert len(lines()) <= 2

    async def test_single_use_and_revocations_go_through_sentinel(self, servers):
        client = connect(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{servers[2].port}/main", PATIENT_S)
        await _claims_and_revocations(client)
        await client.aclose()


class TestCluster:
    @pytest.fixture
    async def servers(self, tmp_path):
        servers = []
        try:
            for number in range(3):
                folder = tmp_path / str(number)
                folder.mkdir()
                servers.append(ClusterNodeProcess(folder))
                servers[-1].start()
            await self.form(servers)
            yield servers
        finally:
            for server in servers:
                server.stop()

    async def form(self, servers):
        share = 16384 // len(servers) + 1
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Redis.from_url(server.url)) for server in servers]
            for number, client in enumerate(clients):
                last = min(16383, (number + 1) * share - 1)
                await client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
                await client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                first = servers[0]
                await client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, first.bus_port)
            async with asyncio.timeout(60):
                for client in clients:
                    while (await client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":  # noqa: ASYNC110 - nodes tell nobody
                        await asyncio.sleep(0.1)

    async def test_a_batch_goes_to_the_node_of_its_slot(self, benches, servers):
        bench = benches(_cluster_url(servers))
        for _ in range(3):
            assert await bench.count()
        assert (bench.part.total, bench.part.lease.granted) == (3, 10)

    async def test_c09_slots_that_move_are_followed(self, benches, servers):
        bench = benches(_cluster_url(servers))
        assert await bench.count()
        slot = bench.client.keyslot(bench.key("x"))
        owner = bench.client.nodes_manager.get_node_from_slot(slot)
        clients = {server.port: Redis.from_url(server.url) for server in servers}
        heir = next(port for port in clients if port != owner.port)
        ids = {port: await client.execute_command("CLUSTER MYID") for port, client in clients.items()}
        await clients[owner.port].flushall()
        for port in (heir, *(port for port in clients if port != heir)):
            await clients[port].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[heir])
        assert not await bench.count()
        assert bench.part.losses == [False]
        assert await bench.count()
        for client in clients.values():
            await client.aclose()

    async def test_c02_a_node_that_is_killed_and_comes_back(self, benches, servers, lines):
        bench = benches(_cluster_url(servers), timeout_s=0.25)
        await bench.recovered()
        owner = bench.client.nodes_manager.get_node_from_slot(bench.client.keyslot(bench.key("x")))
        server = next(server for server in servers if server.port == owner.port)
        server.stop()
        assert [await bench.count_soon() for _ in range(4)] == [False] * 4
        server.start()
        await bench.recovered()
        assert len(lines()) == 2

    async def test_c13_ten_thousand_claims_at_once_are_all_answered(self, servers):
        client = connect(_cluster_url(servers), 10 * PATIENT_S)
        store = RedisReplayStore(client)
        answers = await asyncio.gather(*(store.put_if_absent(f"key{n}", "v", 600) for n in range(10_000)))
        assert answers == [None] * 10_000
        await client.aclose()

    async def test_c03_a_cluster_that_hangs_is_silent_and_comes_back(self, servers):
        """redis-py's error for a Cluster none of whose nodes answers is of no class of its other errors."""
        client = connect(_cluster_url(servers))
        store = RedisReplayStore(client)
        await _answered(store)
        for server in servers:
            server.hang()
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as lost:
                await store.put_if_absent("key", "v", 600)
            assert lost.value.is_silent
        for server in servers:
            server.go_on()
        await _answered(store)
        await client.aclose()

    async def test_single_use_and_revocations_go_through_a_cluster(self, servers):
        client = connect(_cluster_url(servers), PATIENT_S)
        await _claims_and_revocations(client)
        await client.aclose()

    async def test_c10_leases_go_on_where_scripts_are_forbidden(self, benches, servers):
        for server in servers:
            async with Redis.from_url(server.url) as client:
                await client.acl_setuser("default", commands=["-@scripting"], enabled=True)
        bench = benches(_cluster_url(servers))
        assert await bench.count()
        assert bench.part.lease.granted == 10


def _cluster_url(servers):
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


async def _answered(store):
    """Puts until it is answered: a loaded machine may need more than one go."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(StoreUnavailable):
                return await store.put_if_absent(uuid.uuid4().hex, "v", 600)
            await asyncio.sleep(0.05)


async def _claims_and_revocations(client):
    store, key = RedisReplayStore(client), uuid.uuid4().hex
    assert await store.put_if_absent(key, "first", 60) is None
    assert await store.put_if_absent(key, "second", 60) == "first"
    await store.replace(key, "third", 60)
    await client.zadd("permit-router:revoked:jti", {"gone": 2_000_000_000})
    revocations = StoredRevocations(client)
    assert await revocations.read(1_900_000_000, 0.0)
    assert revocations.names("jti") == {"gone"}
