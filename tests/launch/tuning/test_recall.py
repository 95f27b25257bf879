"""A plan computes as tuning found best,
where it still applies and the user says nothing else.
"""

from __future__ import annotations

from dataclasses import replace

from appliance.fit.machine.device import Device, measure_device
from appliance.fit.tuning.choices import Tuning
from appliance.launch.files import PreparedModel, prepare_model
from appliance.launch.names import model_spec
from appliance.launch.planning import plan as plan_launch
from appliance.launch.tuning.recall import best_plan, recall_tuning, untuned_plan
from appliance.settings import ServeSettings
from tests.conftest import Embedded
from tests.launch.specs import Events
from tests.launch.tuning.remembered import BOTH_WORK, launch_for, remember


def test_what_was_found_is_used_unless_the_user_says_otherwise(
    settings: ServeSettings, model: PreparedModel
) -> None:
    tuning = Tuning(
        flash_attention=True, threads=7, batch_threads=5, ubatch_rows=96, use_mmap=False
    )
    remember(launch_for(settings, model), tuning)

    plan = best_plan(launch_for(settings, model))
    assert (plan.sizes.flash_attention, plan.sizes.threads, plan.sizes.batch_threads) == (
        True,
        7,
        5,
    )
    assert (plan.sizes.ubatch_rows, plan.use_mmap, plan.use_extra_bufts) == (96, False, False)

    own = replace(settings, threads=2, flash_attention=False, mmap=True, ubatch_rows=256)
    plan = best_plan(launch_for(own, model))
    assert (plan.sizes.flash_attention, plan.sizes.threads, plan.sizes.batch_threads) == (
        False,
        2,
        2,
    )
    assert (plan.sizes.ubatch_rows, plan.use_mmap) == (256, True)
    own = replace(own, batch_threads=3)
    assert best_plan(launch_for(own, model)).sizes.batch_threads == 3


def test_extra_buffer_types_are_used_where_they_cost_nothing_else(
    settings: ServeSettings, embedded: Embedded
) -> None:
    settings = replace(settings, model=(str(embedded.files["Q4_K_M"]),))
    model = prepare_model(model_spec(settings), Events())
    remember(launch_for(settings, model, BOTH_WORK), Tuning(use_extra_bufts=True, batch_threads=1))
    machine = replace(measure_device(), cpu_flags=frozenset({"avx2"}))

    launch = launch_for(settings, model, BOTH_WORK, machine)
    assert best_plan(launch).use_extra_bufts
    # Room for a byte less than the repacked copy takes: the rest of what was found
    # stays in use.
    repacked = plan_launch(launch, Tuning(use_extra_bufts=True, batch_threads=1))
    assert repacked.need.repacked_bytes > 0
    short = _with_budget(machine, repacked.need.claimed_bytes - 1)
    plan = best_plan(launch_for(settings, model, BOTH_WORK, short))
    assert (plan.use_extra_bufts, plan.sizes.batch_threads, plan.sizes.kv_cells) == (
        False,
        1,
        repacked.sizes.kv_cells,
    )


def _with_budget(machine: Device, usable_bytes: int) -> Device:
    """A machine with so much to plan with: a tenth, at least 32 MiB, is headroom."""
    total_bytes = usable_bytes + max(32 << 20, usable_bytes // 9)
    return replace(
        machine, ram_available_bytes=total_bytes, own_anonymous_bytes=0, mapped_by_others_bytes=0
    )


def test_a_path_that_was_given_up_makes_what_was_found_stale(
    settings: ServeSettings, model: PreparedModel
) -> None:
    both, plain = launch_for(settings, model, BOTH_WORK), launch_for(settings, model)
    remember(both, Tuning(use_extra_bufts=True))
    plan = untuned_plan(plain)
    assert recall_tuning(both, plan) is not None
    assert recall_tuning(plain, plan) is None
    assert not best_plan(plain).use_extra_bufts


def test_without_flash_attention_kv_is_not_quantized(
    settings: ServeSettings, model: PreparedModel
) -> None:
    own = replace(settings, flash_attention=False)
    plan = untuned_plan(launch_for(own, model))
    assert {candidate.kv_type for candidate in plan.candidates} == {"f16"}
