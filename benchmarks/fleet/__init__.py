"""A simulated fleet of model endpoints, in virtual time, for LiteLLM's own Router."""
