/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Idle CPUs that go through their main loop every millisecond for a moment, as on a machine with something to do.
 *
 * The livepatch core finds the other CPU idle, so running, at its first try, has it woken, and tries again a second
 * later. With a pulse from the time it begins the idle task mostly has been switched when its turn comes, and tests
 * that are about something else are a second shorter for each transition.
 */
#ifndef KLP_PULSE_H
#define KLP_PULSE_H

#include <linux/hrtimer.h>
#include <linux/livepatch.h>
#include <linux/sched.h>
#include <linux/smp.h>

static struct hrtimer klp_pulse_timer;
static int klp_pulse_beats = -1; /* to come; -1 before the first pulse */

static notrace enum hrtimer_restart klp_pulse_beat(struct hrtimer *timer)
{
	wake_up_all_idle_cpus(); /* others than this one */
	if (is_idle_task(current)) {
		set_tsk_need_resched(current);
		set_preempt_need_resched();
	}
	hrtimer_forward_now(timer, ms_to_ktime(1));
	return --klp_pulse_beats > 0 ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

static notrace void __maybe_unused klp_pulse_stop(void)
{
	if (klp_pulse_beats >= 0)
		hrtimer_cancel(&klp_pulse_timer);
}

static notrace void __maybe_unused klp_pulse(void)
{
	klp_pulse_stop();
	klp_pulse_beats = 200;
	hrtimer_setup(&klp_pulse_timer, klp_pulse_beat, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	hrtimer_start(&klp_pulse_timer, ms_to_ktime(1), HRTIMER_MODE_REL_HARD);
}

static notrace int __maybe_unused klp_pulse_before_patching(struct klp_object *obj)
{
	klp_pulse();
	return 0;
}

static notrace void __maybe_unused klp_pulse_before_unpatching(struct klp_object *obj)
{
	klp_pulse();
}

/* For an object's callbacks; call klp_pulse_stop() when the module goes. */
#define KLP_PULSE { .pre_patch = klp_pulse_before_patching, .pre_unpatch = klp_pulse_before_unpatching }

#endif
