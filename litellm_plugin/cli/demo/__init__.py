"""The demo: a real LiteLLM Proxy with this plugin, between simulated providers and a policy gateway."""

from litellm_plugin.cli.demo.command import demo

__all__ = ["demo"]
