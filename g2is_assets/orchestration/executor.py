"""All steps of a run in one process, as Dagster's `in_process` has it, and waiting for pools as people want it.

Dagster's own executor spins on a core while a step waits for a pool, does not hear Ctrl-C meanwhile, does not say who
holds the slot, and waits for ever for a run that was killed.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

import dagster as dg
from dagster._core.errors import raise_execution_interrupts
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.execute_plan import inner_plan_execution_iterator
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor

from g2is_assets.orchestration.runs import alive, end_dead_runs, label, turn
from g2is_assets.progress import say

POLL_S: Final = 1.0
"""Between two looks at a pool, in seconds; Dagster's own grows to 15, and runs hand the slot over again and again."""
REMIND_S: Final = 60.0
"""Between two lines about the same waiting step, in seconds."""


class Slots(InstanceConcurrencyContext):
    """A run's claims on pools."""

    def __init__(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        super().__init__(instance, run)
        self.instance, self.run = instance, run
        self.said: dict[str, float] = {}

    def __exit__(self, *error: Any) -> None:
        """Take back the claims of steps that still wait."""
        with turn(self.instance):
            super().__exit__(*error)

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        """Whether the step may start; if not, say so and see to it that the one who holds the slot is alive."""
        with raise_execution_interrupts():  # raises here if Ctrl-C was pressed while this step waited
            pass
        with turn(self.instance):
            claimed = super().claim(concurrency_key, step_key, step_priority)
        if not claimed:
            soon = time.time() + POLL_S
            self._pending_timeouts[step_key] = min(self._pending_timeouts[step_key], soon)
            self._say_who_holds(concurrency_key, step_key)
            end_dead_runs(self.instance)
        return claimed

    def free_step(self, step_key: str) -> None:
        """Give the step's slot back."""
        with turn(self.instance):
            super().free_step(step_key)

    def interval_to_next_pending_claim_check(self) -> float:
        """Seconds to sleep; Dagster's own is never above 0."""
        return max(0.0, min(self._pending_timeouts.values(), default=0.0) - time.time())

    def _say_who_holds(self, pool: str, step_key: str) -> None:
        if time.monotonic() - self.said.get(step_key, -REMIND_S) < REMIND_S:
            return
        held = self.instance.event_log_storage.get_concurrency_info(pool)
        slots = [(self.instance.get_run_by_id(slot.run_id), slot.step_key) for slot in held.claimed_slots]
        holders = [f"run {label(run)} in {_asset(step)}" for run, step in slots if run]
        if not holders and held.limit:
            return  # given back this moment
        self.said[step_key] = time.monotonic()
        reason = f"held by {' and '.join(holders)}" if holders else "whose limit is 0"
        message = f"{_asset(step_key)} waits for the pool '{pool}', {reason}"
        say(message)
        self.instance.report_engine_event(message, self.run, step_key=step_key)


def _asset(step_key: str) -> str:
    return step_key.replace("__", "/")


class WaitingExecutor(InProcessExecutor):
    """Dagster's in-process executor with these slots, in a run that is marked as alive."""

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Run the plan's steps one after the other."""
        with alive(plan_context.instance, plan_context.run_id):
            yield from ExecuteRunWithPlanIterable(
                execution_plan=execution_plan,
                iterator=_steps,
                execution_context_manager=PlanExecutionContextManager(
                    job=plan_context.job,
                    retry_mode=plan_context.retry_mode,
                    execution_plan=execution_plan,
                    run_config=plan_context.run_config,
                    dagster_run=plan_context.dagster_run,
                    instance=plan_context.instance,
                    raise_on_error=plan_context.raise_on_error,
                    output_capture=plan_context.output_capture,
                    step_dependency_config=self.step_dependency_config,
                ),
            )


def _steps(job_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
    with Slots(job_context.instance, job_context.dagster_run) as slots:
        yield from inner_plan_execution_iterator(job_context, execution_plan, slots)


@dg.executor(name="in_process")
def waiting_executor(init_context: dg.InitExecutorContext) -> WaitingExecutor:
    """All steps in the run's process; a step whose pool is full waits and says for whom."""
    return WaitingExecutor(retries=RetryMode.ENABLED)
