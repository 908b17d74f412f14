"""The only room that knows LiteLLM: admission, hooks, deployments, self-check."""
