"""Budgets: what this worker may still spend of each, and what requests reserve and spend of them."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from litellm_plugin.routing.attempts import AttemptStatus
from litellm_plugin.routing.budgets import BudgetAccount, BudgetPeriod
from litellm_plugin.routing.decision import Exclusion
from litellm_plugin.state.leases import MOST_RESOURCES, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from litellm_plugin.routing.budgets import BudgetReading
    from litellm_plugin.routing.decision import Assessment, Decision
    from litellm_plugin.state.leases import LeaseBook, Reservation

_UNITS_PER_USD: Final = 1_000_000
# What the store counts to (`lease_table.py`): a hundred million USD.
_MOST_UNITS: Final = 10**14
# Permits write tenants, and callers parts of a route: other text is a hash in a key, which its mark tells apart.
_PLAIN_SUBJECT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH_MARK: Final = "~"
# After these a provider may have made an answer, and bills it.
_MADE: Final = frozenset({AttemptStatus.SUCCESS, AttemptStatus.ABANDONED})
_DAY_S: Final = 86_400.0
# From the last spending on: twice the period, so that it outlives the period's end by the period's own length, and
# a clock that jumps back finds it as it was.
_LIFETIMES_S: Final = {
    BudgetPeriod.DAY: 2 * _DAY_S,
    BudgetPeriod.WEEK: 14 * _DAY_S,
    BudgetPeriod.MONTH: 62 * _DAY_S,
}


@dataclass(frozen=True, slots=True)
class BudgetHold:
    """What one attempt took of its budgets, to be settled or released once."""

    reservations: tuple[Reservation, ...] = ()


class Budgets(Mapping[BudgetAccount, float]):
    """What is left of any account in USD, from one worker's leases; a decision reads it as a mapping.

    It answers for every account, so that it lists none. To look is enough to be granted a lease by the next exchange.
    Amounts are counted in millionths of a USD, rounded up.

    Args:
        book: This worker's leases.
    """

    def __init__(self, book: LeaseBook) -> None:
        self._book = book

    def __getitem__(self, account: BudgetAccount) -> float:
        return self._book.left(_resource(account)) / _UNITS_PER_USD

    def __iter__(self) -> Iterator[BudgetAccount]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def spend(self, accounts: Iterable[BudgetAccount], expected_usd: float | None) -> BudgetHold:
        """Reserves what an attempt is expected to cost, whatever is left: the decision said that it may be made.

        Args:
            accounts: What the attempt is paid from (`Decision.accounts_of`).
            expected_usd: Its expected cost; an unknown one reserves nothing and is settled all the same.
        """
        units = _units(expected_usd) or 0
        return BudgetHold(tuple(self._book.spend(_resource(account), units) for account in accounts))

    def settle(self, hold: BudgetHold, billed_usd: float | None) -> None:
        """Replaces what was reserved by the bill; without one what was expected counts as spent."""
        units = _units(billed_usd)
        for reservation in hold.reservations:
            self._book.settle(reservation, reservation.units if units is None else units)

    def release(self, hold: BudgetHold) -> None:
        """Gives back what was reserved and not settled: nothing was billed."""
        for reservation in hold.reservations:
            self._book.release(reservation)

    def end(self, hold: BudgetHold, status: AttemptStatus, billed_usd: float | None) -> None:
        """Ends what an attempt took, by how it ended.

        A bill counts whatever became of the answer. Without one an answer counts as what was expected, and so does
        one that its client left: the provider may have made it. What failed is given back.
        """
        if billed_usd is None and status not in _MADE:
            self.release(hold)
        else:
            self.settle(hold, billed_usd)

    def tab(self) -> BudgetTab:
        """What a new request has reserved: nothing yet."""
        return BudgetTab(self)

    def miss(self, decision: Decision) -> None:
        """Asks the next exchange for leases that cover what a decision found too dear for this worker's.

        A lease can be smaller than one request while the budget is not spent.
        """
        for reading in decision.budgets:
            units = max((_units(each) or 0 for each in _costs_usd(decision.assessments, reading)), default=0)
            if reading.action is not None and units > 0:
                reservation = self._book.reserve(_resource(reading.account), units)
                if reservation is not None:
                    self._book.release(reservation)


class BudgetTab:
    """What one request has reserved for the attempt that comes next, so that others see it as soon as it is decided.

    Between a decision and its first attempt other requests are decided on; without this all of them would find the same
    amount left.

    Args:
        budgets: This worker's budgets.
    """

    __slots__ = ("_budgets", "_deployment_id", "_hold")

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._deployment_id: str | None = None
        self._hold = BudgetHold()

    def plan(self, decision: Decision) -> None:
        """Reserves for the first attempt of a plan, in place of an earlier plan's; of none, asks for larger leases."""
        self.close()
        self._budgets.miss(decision)
        if decision.chosen is not None:
            self._deployment_id = decision.chosen.deployment_id
            self._hold = self._reserved(decision, self._deployment_id)

    def begin(self, decision: Decision, deployment_id: str) -> BudgetHold:
        """Hands over what an attempt at this deployment has reserved, which its end settles or gives back."""
        hold, planned_id = self._hold, self._deployment_id
        self._hold, self._deployment_id = BudgetHold(), None
        if planned_id == deployment_id:
            return hold
        self._budgets.release(hold)
        return self._reserved(decision, deployment_id)

    def close(self) -> None:
        """Gives back what no attempt took over."""
        self._budgets.release(self._hold)
        self._hold, self._deployment_id = BudgetHold(), None

    def _reserved(self, decision: Decision, deployment_id: str) -> BudgetHold:
        assessed = decision.assessment_of(deployment_id)
        expected_usd = assessed.expected_cost_usd if assessed is not None else None
        return self._budgets.spend(decision.accounts_of(deployment_id), expected_usd)


def _costs_usd(assessments: Iterable[Assessment], reading: BudgetReading) -> Iterator[float | None]:
    for each in assessments:
        if each.exclusion in {None, Exclusion.BUDGET} and reading.concerns(each.candidate.deployment_id):
            yield each.expected_cost_usd


# As many as a book holds; to make one costs as much as to look it up there.
@functools.lru_cache(maxsize=MOST_RESOURCES)
def _resource(account: BudgetAccount) -> Resource:
    name = f"budget:{account.budget}:{_key_of(account.subject)}:{account.period_id}"
    limit = _units(account.limit_usd) or 0
    return Resource(name, limit, lifetime_s=_LIFETIMES_S[account.period])


def _key_of(subject: str) -> str:
    if _PLAIN_SUBJECT.fullmatch(subject):
        return subject
    return _HASH_MARK + hashlib.blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _units(amount_usd: float | None) -> int | None:
    """Millionths of a USD, rounded up; None for what is no amount."""
    if amount_usd is None or not math.isfinite(amount_usd) or amount_usd < 0:
        return None
    # Nine digits behind the unit are more than a price has; what arithmetic leaves beyond them is no amount.
    return min(math.ceil(round(amount_usd * _UNITS_PER_USD, 9)), _MOST_UNITS)
