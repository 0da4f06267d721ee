/* SPDX-License-Identifier: GPL-2.0-only */
/* What the scheduler calls its things, for kernels 4.20 to 7.3. */
#ifndef HARNESS_SCHED_H
#define HARNESS_SCHED_H

#include <linux/sched.h>
#include <linux/sched/rt.h>
#include <linux/version.h>
#include <uapi/linux/sched/types.h>

#include "harness_test.h"

/* From 6.1 on: a sleeper of this state may be frozen. Later on livepatch switches such tasks as they go to sleep. */
#ifndef TASK_FREEZABLE
#define TASK_FREEZABLE 0
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
#define harness_state(task) READ_ONCE((task)->state)
#else
#define harness_state(task) READ_ONCE((task)->__state)
#endif

typedef int (*harness_task_func)(struct task_struct *task, void *arg);

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
/*
 * Call func while the task can't wake; its result, or -EBUSY where the task is not asleep. Whoever wakes a task takes
 * its pi_lock first, and one that is on no run queue is not running and comes to run in no other way.
 */
static notrace int __maybe_unused harness_call_on_task(struct task_struct *task, harness_task_func func, void *arg)
{
	unsigned long flags;
	int ret = -EBUSY;

	raw_spin_lock_irqsave(&task->pi_lock, flags);
	if (!READ_ONCE(task->on_rq) && !READ_ONCE(task->on_cpu))
		ret = func(task, arg);
	raw_spin_unlock_irqrestore(&task->pi_lock, flags);
	return ret;
}

static notrace int __maybe_unused harness_call_on_task_init(void)
{
	return 0;
}
#else
#define HARNESS_TASK_CALL "task_call_func"
static int (*harness_task_call)(struct task_struct *task, harness_task_func func, void *arg);

/* Call func while the task can't wake; its result. */
static notrace int __maybe_unused harness_call_on_task(struct task_struct *task, harness_task_func func, void *arg)
{
	return harness_task_call(task, func, arg);
}

/* Before the first harness_call_on_task(). */
static notrace int __maybe_unused harness_call_on_task_init(void)
{
	harness_task_call = (void *)harness_lookup(HARNESS_TASK_CALL);
	return harness_task_call ? 0 : harness_lacks(HARNESS_TASK_CALL "()");
}
#endif

/* Make the task a real-time task, of a priority in the middle. */
static notrace void __maybe_unused harness_set_fifo(struct task_struct *task)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 9, 0)
	struct sched_param param = { .sched_priority = MAX_RT_PRIO / 2 };

	sched_setscheduler(task, SCHED_FIFO, &param);
#else
	sched_set_fifo(task);
#endif
}

#endif
