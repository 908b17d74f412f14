"""A breaker under everything that can happen to it, in any order: what always holds."""

from __future__ import annotations

from breaker_fleet import FAILED, SUCCESS, workers
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from litellm_plugin.routing import AttemptStatus
from litellm_plugin.routing.health import BreakerState
from litellm_plugin.state.breaker_rules import SIGNS
from litellm_plugin.state.probes import LEASE_S

ENDS = (FAILED, SUCCESS, AttemptStatus.TIMEOUT, AttemptStatus.PROVIDER_AUTH)
SAYS_NOTHING = sorted(set(AttemptStatus) - set(SIGNS))
any_worker = st.integers(0, 1)


class ABreaker(RuleBasedStateMachine):
    """Two workers, one deployment, one store; `has_failed` says whether anyone ever saw a failure."""

    def __init__(self):
        super().__init__()
        self.store, self.fleet = workers(2, longest_open_s=60.0, longest_wait_s=60.0)
        self.has_failed = False
        self.jumped = False

    @rule(
        number=any_worker,
        status=st.sampled_from(ENDS),
        times=st.integers(1, 6),
        duration_s=st.integers(0, 90),
    )
    def attempt_ends(self, number, status, times, duration_s):
        self.has_failed = self.has_failed or status is not SUCCESS
        self.fleet[number].record(status, times=times, duration_s=float(duration_s))

    @rule(
        number=any_worker, status=st.sampled_from(SAYS_NOTHING), retry_after_s=st.none() | st.floats(0, 1e9)
    )
    def attempt_says_nothing(self, number, status, retry_after_s):
        self.fleet[number].record(status, times=20, retry_after_s=retry_after_s)

    @rule(number=any_worker, end=st.sampled_from([*ENDS, *SAYS_NOTHING, "cancelled", "hung"]))
    def probe(self, number, end):
        worker = self.fleet[number]
        worker.want()
        if not worker.take():
            return
        match end:
            case "hung":
                pass
            case "cancelled":
                worker.breakers.give_back_probe("d")
            case status:
                self.has_failed = self.has_failed or status in ENDS[0:1] + ENDS[2:]
                worker.record(status, is_probe=True)

    @rule(number=any_worker)
    def exchange(self, number):
        self.fleet[number].turn()

    @rule(number=any_worker, was_sent=st.booleans())
    def exchange_is_lost(self, number, was_sent):
        self.fleet[number].lose(was_sent=was_sent)

    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds):
        self.store.now_s += seconds

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def clock_jumps(self, seconds):
        self.store.now_s += seconds

    @rule()
    def store_forgets(self):
        self.store.flush()

    @precondition(lambda self: any(self.states(BreakerState.HALF_OPEN)))
    @rule(number=any_worker)
    def a_half_open_one_is_probed_in_time(self, number):
        """Whoever wants a probe has one within the longest a lost one is held, and a period."""
        worker = self.fleet[number]
        for _ in range(int(max(30.0, LEASE_S)) + 2):
            for each in self.fleet:
                each.want() if each is worker else None
                each.turn()
            if worker.health().breaker is not BreakerState.HALF_OPEN or worker.health().may_probe:
                return
            self.store.now_s += 1
        raise AssertionError("no probe in time")

    def states(self, wanted):
        return [worker for worker in self.fleet if worker.health().breaker is wanted]

    @invariant()
    def without_failures_nothing_opens(self):
        assert self.has_failed or not self.states(BreakerState.OPEN)

    @invariant()
    def no_open_time_is_longer_than_the_cap(self):
        for worker in self.fleet:
            assert (worker.health().retry_after_s or 0.0) <= 61.0

    @invariant()
    def an_open_one_says_why(self):
        assert all(worker.health().cause for worker in self.states(BreakerState.OPEN))


TestABreaker = ABreaker.TestCase
TestABreaker.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
