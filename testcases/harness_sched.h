/* SPDX-License-Identifier: GPL-2.0-only */
/* What the scheduler calls its things, for kernels 5.10 to 7.3. */
#ifndef HARNESS_SCHED_H
#define HARNESS_SCHED_H

#include <linux/sched.h>
#include <linux/version.h>

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
#define HARNESS_TASK_CALL "try_invoke_on_locked_down_task"
static bool (*harness_task_call)(struct task_struct *task, bool (*func)(struct task_struct *task, void *arg), void *arg);

struct harness_call {
	harness_task_func func;
	void *arg;
	int result;
};

static notrace bool __maybe_unused harness_called(struct task_struct *task, void *arg)
{
	struct harness_call *call = arg;

	call->result = call->func(task, call->arg);
	return true;
}

/* Call func while the task can't wake; its result, or -EBUSY where the task is not asleep. */
static notrace int __maybe_unused harness_call_on_task(struct task_struct *task, harness_task_func func, void *arg)
{
	struct harness_call call = { func, arg, -EBUSY };

	harness_task_call(task, harness_called, &call);
	return call.result;
}
#else
#define HARNESS_TASK_CALL "task_call_func"
static int (*harness_task_call)(struct task_struct *task, harness_task_func func, void *arg);

/* Call func while the task can't wake; its result. */
static notrace int __maybe_unused harness_call_on_task(struct task_struct *task, harness_task_func func, void *arg)
{
	return harness_task_call(task, func, arg);
}
#endif

/* Before the first harness_call_on_task(). */
static notrace int __maybe_unused harness_call_on_task_init(void)
{
	harness_task_call = (void *)harness_lookup(HARNESS_TASK_CALL);
	return harness_task_call ? 0 : -ENOENT;
}

#endif
