from __future__ import annotations

import logging
import time
import uuid

import pytest
from pydantic import ValidationError
from valkey_process import ValkeyProcess

from litellm_plugin.settings import PermitBlock
from litellm_plugin.state import RevokedKind, StoredRevocations, connect
from litellm_plugin.state.revocations import LOST_AFTER_MISSES, MOST_REVOKED

NOW = 1_800_000_000.0
# Where time is not the case, a loaded machine must not end the test.
PATIENT_S = 30.0


class Store:
    """A server's revocations as an operator writes them, and a worker that reads them."""

    def __init__(self, server, *, timeout_s=PATIENT_S, limit=MOST_REVOKED):
        self.prefix = f"test-{uuid.uuid4().hex}:"
        self.admin = connect(server.url, PATIENT_S)
        self.client = connect(server.url, timeout_s)
        self.stored = StoredRevocations(self.client, self.prefix, limit)
        self.now_s = 1_000.0

    def key(self, kind):
        return f"{self.prefix}revoked:{kind}"

    async def revoke(self, kind, *names, until=NOW + 60):
        await self.admin.zadd(self.key(kind), dict.fromkeys(names, until))

    async def read(self, now=NOW):
        return await self.stored.read(now, self.now_s)

    async def jti(self, now=NOW):
        await self.read(now)
        return self.stored.names(RevokedKind.JTI)

    async def aclose(self):
        await self.admin.aclose()
        await self.client.aclose()


@pytest.fixture
async def store(valkey):
    store = Store(valkey)
    yield store
    await store.aclose()


@pytest.fixture
async def short(valkey):
    """A worker that reads two entries a kind."""
    store = Store(valkey, limit=2)
    yield store
    await store.aclose()


@pytest.fixture
async def fragile(own_valkey):
    """A worker before a server that the test may hang or kill."""
    store = Store(own_valkey)
    yield store
    await store.aclose()


@pytest.fixture
def told(caplog):
    """What was logged, as (level, text)."""
    caplog.set_level(logging.INFO)
    return lambda: [(each.levelname, each.getMessage()) for each in caplog.records]


class TestRead:
    async def test_an_empty_store_revokes_nothing(self, store):
        assert not await store.read()
        assert [store.stored.names(kind) for kind in RevokedKind] == [frozenset()] * 3

    @pytest.mark.parametrize("kind", list(RevokedKind))
    async def test_each_kind_has_a_key_of_its_own(self, store, kind):
        await store.revoke(kind, "a", "b")
        await store.read()
        assert {each: store.stored.names(each) for each in RevokedKind if store.stored.names(each)} == {
            kind: {"a", "b"}
        }

    @pytest.mark.parametrize("kind", ["jti", "kid", "policy_version"])
    async def test_operators_find_the_keys_where_the_docs_say(self, own_valkey, kind):
        client = connect(own_valkey.url, PATIENT_S)
        await client.execute_command("ZADD", f"permit-router:revoked:{kind}", "+inf", "gone")
        stored = StoredRevocations(client)
        await stored.read(NOW, 0.0)
        await client.aclose()
        assert stored.names(RevokedKind(kind)) == {"gone"}

    @pytest.mark.parametrize(
        ("until", "counts"),
        [
            pytest.param(NOW - 1, False, id="before"),
            pytest.param(NOW, False, id="now"),
            pytest.param(NOW + 0.001, True, id="after"),
            pytest.param("+inf", True, id="for-good"),
            pytest.param("-inf", False, id="never"),
        ],
    )
    async def test_an_entry_counts_until_its_time(self, store, until, counts):
        await store.revoke("jti", "a", until=until)
        assert await store.jti() == ({"a"} if counts else set())

    async def test_an_entry_ends_by_itself(self, store):
        await store.revoke("jti", "a", until=NOW + 60)
        assert await store.jti(NOW + 59.9) == {"a"}
        assert await store.jti(NOW + 60) == set()

    async def test_an_entry_that_was_removed_counts_no_more(self, store):
        await store.revoke("jti", "a", "b")
        await store.read()
        await store.admin.zrem(store.key("jti"), "a")
        assert await store.jti() == {"b"}

    async def test_a_read_says_whether_something_changed(self, store):
        await store.revoke("kid", "a")
        assert [await store.read(), await store.read()] == [True, False]
        await store.revoke("kid", "b")
        assert [await store.read(), await store.read()] == [True, False]

    async def test_the_clients_decoding_makes_no_difference(self, store):
        await store.revoke("jti", "a")
        store.client.connection_pool.connection_kwargs["decode_responses"] = True
        assert await store.jti() == {"a"}

    async def test_the_age_is_that_of_the_last_read(self, store):
        assert store.stored.age_s(store.now_s) is None
        await store.read()
        assert store.stored.age_s(store.now_s + 2.5) == 2.5


FOREIGN = [
    pytest.param("jti", b"", id="empty"),
    pytest.param("jti", b"a b", id="blank"),
    pytest.param("jti", b"a\n", id="newline"),
    pytest.param("jti", b"a" * 129, id="too-long"),
    pytest.param("jti", "ä".encode(), id="not-ascii"),
    pytest.param("jti", b"\xff\x00", id="no-text"),
    pytest.param("jti", b"*", id="pattern"),
    pytest.param("kid", b"a/b", id="kid-with-a-slash"),
    pytest.param("kid", b"a" * 65, id="kid-too-long"),
    pytest.param("policy_version", b"42 ", id="version-with-a-blank"),
]


class TestForeignContent:
    @pytest.mark.parametrize(("kind", "member"), FOREIGN)
    async def test_a_member_that_is_no_id_is_skipped_and_counted(self, store, kind, member):
        await store.revoke(kind, "good", member)
        await store.read()
        assert store.stored.names(RevokedKind(kind)) == {"good"}
        assert store.stored.skipped == 1

    async def test_it_is_told_once(self, store, told):
        await store.revoke("jti", "a b")
        for number in range(3):
            await store.revoke("jti", f"c {number}")
            await store.read()
        assert told() == [
            (
                "WARNING",
                f"Stored revocations: {store.key('jti')} holds members that are no id of its kind; they are skipped",
            )
        ]

    @pytest.mark.parametrize(
        ("kind", "setting"),
        [
            pytest.param(RevokedKind.JTI, "jti", id="jti"),
            pytest.param(RevokedKind.KID, "kid", id="kid"),
            pytest.param(RevokedKind.POLICY_VERSION, "policy_versions", id="policy-version"),
        ],
    )
    def test_an_id_is_what_the_policy_block_takes(self, kind, setting):
        block = PermitBlock.model_fields["revoked"].annotation
        texts = [chr(code) for code in range(256)] + ["a" * length for length in (0, 1, 64, 65, 128, 129)]
        texts += ["a\n", "\na", "a" * 64 + "\n"]
        for text in texts:
            try:
                block(**{setting: [text]})
            except ValidationError:
                assert not kind.pattern.fullmatch(text), text
            else:
                assert kind.pattern.fullmatch(text), text

    async def test_a_key_of_a_wrong_type_leaves_the_others(self, store, told):
        await store.admin.set(store.key("kid"), "x")
        await store.revoke("jti", "a")
        assert await store.jti() == {"a"}
        assert store.stored.names(RevokedKind.KID) == set()
        ((level, text),) = told()
        assert level == "WARNING"
        assert store.key("kid") in text
        assert "WRONGTYPE" in text

    async def test_a_key_that_turns_wrong_keeps_what_it_said(self, store, told):
        await store.revoke("jti", "a")
        await store.read()
        await store.admin.delete(store.key("jti"))
        await store.admin.rpush(store.key("jti"), "b")
        store.now_s += 5
        for _ in range(3):
            assert await store.jti() == {"a"}
        assert store.stored.age_s(store.now_s) == 5
        assert len(told()) == 1

    async def test_a_key_that_is_right_again_counts_again(self, store, told):
        await store.admin.set(store.key("jti"), "x")
        await store.read()
        await store.admin.delete(store.key("jti"))
        await store.revoke("jti", "b")
        assert await store.jti() == {"b"}
        assert [level for level, _ in told()] == ["WARNING", "INFO"]
        assert store.stored.age_s(store.now_s) == 0


class TestLimit:
    async def test_of_too_many_those_that_end_last_count(self, short):
        for number in range(4):
            await short.revoke("jti", f"a{number}", until=NOW + 10 + number)
        await short.revoke("jti", "for-good", until="+inf")
        assert await short.jti() == {"for-good", "a3"}
        assert short.stored.over_limit == ["jti"]

    async def test_of_those_that_end_together_the_same_count_at_every_read(self, short):
        await short.revoke("jti", *"cabd")
        assert [await short.jti() for _ in range(3)] == [{"c", "d"}] * 3

    async def test_as_many_as_the_limit_are_not_too_many(self, short):
        await short.revoke("kid", "a", "b")
        await short.read()
        assert (short.stored.names(RevokedKind.KID), short.stored.over_limit) == ({"a", "b"}, [])

    async def test_it_is_told_once_and_when_it_is_over(self, short, told):
        await short.revoke("kid", *"abc")
        for _ in range(3):
            await short.read()
        await short.admin.zrem(short.key("kid"), "a")
        await short.read()
        assert [(level, "more than 2 entries" in text) for level, text in told()] == [
            ("WARNING", True),
            ("INFO", True),
        ]

    async def test_three_full_sets_are_read(self, store):
        names = [f"id-{number}" for number in range(MOST_REVOKED)]
        for kind in RevokedKind:
            await store.revoke(kind, *names)
        await store.read()
        assert [len(store.stored.names(kind)) for kind in RevokedKind] == [MOST_REVOKED] * 3
        assert store.stored.over_limit == []


class TestLostServer:
    async def test_what_was_read_last_stays_in_force(self, fragile, own_valkey):
        await fragile.revoke("jti", "a", until=NOW + 60)
        await fragile.read()
        own_valkey.stop()
        assert await fragile.jti() == {"a"}
        assert await fragile.jti(NOW + 61) == {"a"}

    async def test_the_age_grows(self, fragile, own_valkey):
        await fragile.read()
        own_valkey.stop()
        fragile.now_s += 7
        await fragile.read()
        assert fragile.stored.age_s(fragile.now_s) == 7

    async def test_it_is_told_once_and_when_it_is_back(self, fragile, own_valkey, told):
        own_valkey.stop()
        for _ in range(LOST_AFTER_MISSES + 3):
            await fragile.read()
        own_valkey.start()
        for _ in range(2):
            await fragile.read()
        lost = "the store does not answer; what was read last stays in force"
        assert told() == [
            ("WARNING", f"Stored revocations: {lost}"),
            ("INFO", f"Stored revocations: no more: {lost}"),
        ]

    async def test_a_single_miss_is_not_told(self, fragile, own_valkey, told):
        own_valkey.stop()
        for _ in range(LOST_AFTER_MISSES - 1):
            await fragile.read()
        own_valkey.start()
        await fragile.read()
        assert told() == []

    async def test_what_an_empty_new_server_does_not_know_counts_no_more(self, fragile, own_valkey):
        await fragile.revoke("jti", "a")
        await fragile.read()
        own_valkey.stop()
        own_valkey.start()
        await fragile.read()  # Finds its connection shut.
        assert await fragile.jti() == set()

    async def test_a_hung_server_holds_a_read_for_a_moment_only(self, own_valkey):
        store = Store(own_valkey, timeout_s=0.05)
        await store.admin.ping()
        own_valkey.hang()
        before_s = time.monotonic()
        assert not await store.read()
        # 50 ms are meant; a loaded machine is no fault of ours.
        assert time.monotonic() - before_s < 10.0
        own_valkey.go_on()
        await store.aclose()

    async def test_a_server_down_at_the_start_revokes_nothing(self, tmp_path):
        client = connect(ValkeyProcess(tmp_path).url)
        stored = StoredRevocations(client)
        assert not await stored.read(NOW, 0.0)
        assert stored.age_s(1.0) is None
        await client.aclose()

    async def test_a_server_that_asks_for_a_password_is_lost(self, fragile, told):
        await fragile.revoke("jti", "a")
        await fragile.read()
        await fragile.admin.config_set("requirepass", "s3cret")
        await fragile.client.connection_pool.disconnect()
        for _ in range(LOST_AFTER_MISSES):
            assert await fragile.jti() == {"a"}
        assert len(told()) == 1
