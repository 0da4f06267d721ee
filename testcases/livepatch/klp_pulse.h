/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Idle CPUs that go through their main loop every millisecond, as on a machine with something to do.
 *
 * The livepatch core finds the other CPU idle, so running, at its first try, has it woken, and tries again a second
 * later. With a pulse the idle task has mostly been switched when its turn comes, and most of the tests that are about
 * something else are a second shorter for each transition.
 */
#ifndef KLP_PULSE_H
#define KLP_PULSE_H

#include <linux/hrtimer.h>
#include <linux/sched.h>
#include <linux/smp.h>

static struct hrtimer klp_pulse_timer;

static notrace enum hrtimer_restart klp_pulse_beat(struct hrtimer *timer)
{
	wake_up_all_idle_cpus(); /* others than this one */
	if (is_idle_task(current)) {
		set_tsk_need_resched(current);
		set_preempt_need_resched();
	}
	hrtimer_forward_now(timer, ms_to_ktime(1));
	return HRTIMER_RESTART;
}

static notrace void klp_pulse_start(void)
{
	hrtimer_setup(&klp_pulse_timer, klp_pulse_beat, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	hrtimer_start(&klp_pulse_timer, ms_to_ktime(1), HRTIMER_MODE_REL_HARD);
}

static notrace void klp_pulse_stop(void)
{
	hrtimer_cancel(&klp_pulse_timer);
}

#endif
