from __future__ import annotations

import copy

import pytest
from proxy_cases import POLICY_BLOCK

from litellm_plugin.errors import ConfigurationError
from litellm_plugin.proxy.egress import CONTENT_FREE, Egress, EgressTable, Kind, configured, egress_table
from litellm_plugin.proxy.selfcheck import check_configuration
from litellm_plugin.settings import Flags, load_policy

BASE = {"router_settings": {"disable_cooldowns": True}, "model_list": []}
GROUP = {"model_name": "embed", "litellm_params": {"model": "openai/x"}, "model_info": {"id": "embed-1"}}
OWN = "litellm_plugin.permit_router"


def config_with(section, value):
    config = copy.deepcopy(BASE)
    config[section] = {**config.get(section, {}), **value} if isinstance(value, dict) else value
    return config


def litellm_settings(**settings):
    return config_with("litellm_settings", settings)


def guardrail(name, **params):
    return {"guardrail_name": name, "litellm_params": {"guardrail": "presidio", "mode": "pre_call", **params}}


CACHE = {"type": "qdrant-semantic", "qdrant_semantic_cache_embedding_model": "embed"}
PLACES = [
    pytest.param(litellm_settings(callbacks=[OWN, "langfuse"]), "callback", "langfuse", id="callback"),
    pytest.param(litellm_settings(callbacks="mine.logger"), "callback", "mine.logger", id="one-callback"),
    pytest.param(litellm_settings(success_callback=["s3"]), "callback", "s3", id="success"),
    pytest.param(litellm_settings(failure_callback=["sentry"]), "callback", "sentry", id="failure"),
    pytest.param(litellm_settings(input_callback=["mine.f"]), "callback", "mine.f", id="input"),
    pytest.param(litellm_settings(post_call_rules="mine.rule"), "callback", "mine.rule", id="rule"),
    pytest.param(
        config_with("general_settings", {"alerting": ["slack"]}), "alerting", "slack", id="alerting"
    ),
    pytest.param(
        config_with("router_settings", {"disable_cooldowns": True, "alerting_config": {"webhook_url": "x"}}),
        "alerting",
        "slack",
        id="router-alerting",
    ),
    pytest.param(config_with("guardrails", [guardrail("pii mask")]), "guardrail", "pii mask", id="guardrail"),
    pytest.param(
        litellm_settings(guardrails=[{"old": {"callbacks": ["presidio"]}}]),
        "guardrail",
        "old",
        id="old-guardrail",
    ),
    pytest.param(
        config_with(
            "vector_store_registry",
            [{"vector_store_name": "handbook", "litellm_params": {"vector_store_id": "vs"}}],
        ),
        "vector store",
        "handbook",
        id="vector-store",
    ),
    pytest.param(
        config_with("vector_store_registry", [{"litellm_params": {"vector_store_id": "vs"}}]),
        "vector store",
        "vs",
        id="vector-store-without-a-name",
    ),
    pytest.param(
        config_with("search_tools", [{"search_tool_name": "web"}]), "search tool", "web", id="search-tool"
    ),
    pytest.param(
        config_with("general_settings", {"search_tools": [{"search_tool_name": "web"}]}),
        "search tool",
        "web",
        id="search-tool-in-general-settings",
    ),
    pytest.param(config_with("mcp_servers", {"github": {}}), "MCP server", "github", id="mcp"),
    pytest.param(
        {**litellm_settings(cache=True, cache_params=CACHE), "model_list": [GROUP]},
        "cache embedder",
        "embed",
        id="cache-embedder",
    ),
]


def policy(tmp_path, egress):
    return load_policy({**POLICY_BLOCK, "egress": egress}, Flags(), base=tmp_path)


def findings(config, tmp_path, egress=None):
    with pytest.raises(ConfigurationError) as caught:
        check_configuration(config, policy(tmp_path, egress or {}))
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("config", "kind", "name"), PLACES)
def test_a_place_that_is_not_listed_stops_the_start(tmp_path, config, kind, name):
    (finding,) = findings(config, tmp_path)
    assert f"the {kind} {name!r} may receive what callers write, and egress does not list it" in finding
    assert f"write litellm_settings.permit_router.egress: {{{name}: [...]}}" in finding


@pytest.mark.parametrize(("config", "kind", "name"), PLACES)
def test_a_place_that_is_listed_passes(tmp_path, config, kind, name):
    check_configuration(config, policy(tmp_path, {name: ["internal"]}))


@pytest.mark.parametrize("name", sorted(CONTENT_FREE))
def test_a_callback_that_receives_no_content_needs_no_entry(tmp_path, name):
    check_configuration(litellm_settings(callbacks=[name]), policy(tmp_path, {}))


def test_an_entry_may_be_cleared_for_nothing(tmp_path):
    check_configuration(litellm_settings(callbacks=["langfuse"]), policy(tmp_path, {"langfuse": []}))


def test_an_entry_that_nothing_is_configured_for_names_the_nearest(tmp_path):
    config = litellm_settings(callbacks=["langfuse"])
    (finding,) = findings(config, tmp_path, {"langfuse": [], "langfues": ["internal"]})
    assert finding.startswith(
        "litellm_settings.permit_router.egress: unknown egress 'langfues'; did you mean"
    )


def test_an_embedder_that_is_no_endpoint_stops_the_start(tmp_path):
    config = litellm_settings(cache=True, cache_params=CACHE)
    (finding,) = findings(config, tmp_path, {"embed": ["internal"]})
    assert "'embed' is no model group of model_list" in finding


def test_a_semantic_cache_has_litellms_embedder_unless_it_names_one(tmp_path):
    config = litellm_settings(cache=True, cache_params={"type": "redis-semantic"})
    assert "'text-embedding-ada-002'" in findings(config, tmp_path)[0]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"cache": True, "cache_params": {"type": "local"}}, id="exact"),
        pytest.param({"cache": False, "cache_params": CACHE}, id="off"),
        pytest.param({"cache_params": CACHE}, id="not-on"),
    ],
)
def test_a_cache_without_an_embedder_is_no_egress(tmp_path, settings):
    check_configuration(litellm_settings(**settings), policy(tmp_path, {}))


@pytest.mark.parametrize(
    ("config", "always"),
    [
        pytest.param(config_with("guardrails", [guardrail("g", default_on=True)]), True, id="default-on"),
        pytest.param(config_with("guardrails", [guardrail("g")]), False, id="on-request"),
        pytest.param(litellm_settings(callbacks=["langfuse"]), False, id="log-sink"),
        pytest.param(litellm_settings(callbacks=["sentry"]), True, id="told-before-it-is-asked"),
        pytest.param(litellm_settings(input_callback=["mine.f"]), True, id="input-callback"),
    ],
)
def test_what_gets_every_request_is_known_from_the_configuration(config, always):
    (place,) = configured(config)
    assert place.runs_always is always


def test_content_urls_may_be_cleared_and_need_no_entry(tmp_path):
    check_configuration(BASE, policy(tmp_path, {}))
    check_configuration(BASE, policy(tmp_path, {"content_urls": ["internal"]}))


class TestTeams:
    def config(self, **team):
        return litellm_settings(default_team_settings=[{"team_id": "acme", **team}])

    @pytest.mark.parametrize("setting", ["success_callback", "failure_callback"])
    def test_a_teams_callback_that_is_not_listed_stops_the_start(self, tmp_path, setting):
        (finding,) = findings(self.config(**{setting: ["langfuse"]}), tmp_path)
        assert finding.startswith("litellm_settings.default_team_settings[0]: the callback 'langfuse'")

    def test_a_teams_callback_that_is_listed_passes(self, tmp_path):
        listed = policy(tmp_path, {"langfuse": ["internal"]})
        check_configuration(self.config(success_callback=["langfuse"]), listed)

    @pytest.mark.parametrize("is_nested", [False, True])
    def test_a_teams_destination_stops_the_start(self, tmp_path, is_nested):
        said = {"langfuse_host": "https://evil"}
        config = self.config(
            success_callback=["langfuse"], **({"callback_vars": said} if is_nested else said)
        )
        (finding,) = findings(config, tmp_path, {"langfuse": ["internal"]})
        assert "default_team_settings[0]: langfuse_host would send" in finding


def test_a_name_that_stands_in_two_settings_is_one_place():
    config = litellm_settings(success_callback=["langfuse"], failure_callback=["langfuse"])
    assert len(list(configured(config))) == 1


class TestTable:
    TABLE = EgressTable(
        (Egress(Kind.CALLBACK, "langfuse", "x"), Egress(Kind.GUARDRAIL, "g", "x", runs_always=True)),
        {"langfuse": frozenset({"internal"}), "g": frozenset({"internal", "phi"})},
        frozenset({"internal", "phi"}),
    )

    def test_a_place_is_held_back_from_what_it_is_not_cleared_for(self):
        assert self.TABLE.held("internal") == frozenset()
        assert self.TABLE.held("phi") == {"langfuse"}

    def test_everything_is_held_back_from_what_nobody_declared(self):
        assert self.TABLE.held("unheard-of") == {"langfuse", "g"}

    def test_without_a_request_only_what_may_receive_everything_is_told(self):
        assert self.TABLE.restricted == {"langfuse"}

    def test_nothing_configured_holds_nothing(self):
        assert EgressTable().held("internal") == frozenset()
        assert EgressTable().restricted == frozenset()


class TestSearches:
    @pytest.fixture
    def table(self, tmp_path):
        config = config_with(
            "search_tools",
            [
                {"search_tool_name": "web", "litellm_params": {"search_provider": "tavily"}},
                {"search_tool_name": "same", "litellm_params": {"search_provider": "tavily"}},
            ],
        )
        store = {"vector_store_id": "vs", "custom_llm_provider": "openai", "api_base": "https://a"}
        config["vector_store_registry"] = [{"vector_store_name": "handbook", "litellm_params": store}]
        return egress_table(config, policy(tmp_path, {}))

    @pytest.mark.parametrize(
        ("call", "names"),
        [
            pytest.param({"search_provider": "tavily"}, {"web", "same"}, id="tools-of-one-address"),
            pytest.param({"search_provider": "tavily", "api_base": "https://evil"}, set(), id="elsewhere"),
            pytest.param({"search_provider": "exa"}, set(), id="not-configured"),
            pytest.param({}, set(), id="no-provider"),
            pytest.param(
                {"vector_store_id": "vs", "custom_llm_provider": "openai", "api_base": "https://a"},
                {"handbook"},
                id="store",
            ),
            pytest.param(
                {"vector_store_id": "vs", "custom_llm_provider": "openai", "api_base": "https://evil"},
                set(),
                id="store-elsewhere",
            ),
            pytest.param({"vector_store_id": "other"}, set(), id="other-store"),
        ],
    )
    def test_a_search_is_known_by_where_it_goes(self, table, call, names):
        assert table.searched(call) == names
