/* SPDX-License-Identifier: GPL-2.0-only */
/* Stack traces of the running task and of others, for kernels 4.20 to 7.3: stack_trace_save() is from 5.2. */
#ifndef HARNESS_STACK_H
#define HARNESS_STACK_H

#include <linux/sched.h>
#include <linux/stacktrace.h>
#include <linux/version.h>

#include "harness_test.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 2, 0)

#define harness_stack_trace(entries, size) stack_trace_save(entries, size, 0)

static typeof(&stack_trace_save_tsk_reliable) harness_save_reliable __maybe_unused;
static typeof(&stack_trace_save_tsk) harness_save_any __maybe_unused;

#define HARNESS_SAVE_RELIABLE "stack_trace_save_tsk_reliable"
#define HARNESS_SAVE_ANY "stack_trace_save_tsk"
#define harness_stack_of(task, entries, size) harness_save_any(task, entries, size, 0)
#define harness_reliable_stack_of(task, entries, size) harness_save_reliable(task, entries, size)

#else

/* The old functions may end a trace with ULONG_MAX, which is no return address. */
static __always_inline unsigned int harness_entries(const struct stack_trace *trace)
{
	unsigned int found = trace->nr_entries;

	return found && trace->entries[found - 1] == ULONG_MAX ? found - 1 : found;
}

/* Inlined, so that the trace begins with the caller, as that of stack_trace_save() does. */
static __always_inline unsigned int harness_stack_trace(unsigned long *entries, unsigned int size)
{
	struct stack_trace trace = { .entries = entries, .max_entries = size };

	save_stack_trace(&trace);
	return harness_entries(&trace);
}

static typeof(&save_stack_trace_tsk_reliable) harness_save_reliable __maybe_unused;
static typeof(&save_stack_trace_tsk) harness_save_any __maybe_unused;

#define HARNESS_SAVE_RELIABLE "save_stack_trace_tsk_reliable"
#define HARNESS_SAVE_ANY "save_stack_trace_tsk"

static notrace int __maybe_unused harness_stack_of(struct task_struct *task, unsigned long *entries, unsigned int size)
{
	struct stack_trace trace = { .entries = entries, .max_entries = size };

	harness_save_any(task, &trace);
	return harness_entries(&trace);
}

static notrace int __maybe_unused harness_reliable_stack_of(struct task_struct *task, unsigned long *entries,
							    unsigned int size)
{
	struct stack_trace trace = { .entries = entries, .max_entries = size };
	int ret = harness_save_reliable(task, &trace);

	return ret ?: harness_entries(&trace);
}

#endif

/* Before the first trace of another task. */
static notrace int __maybe_unused harness_stack_of_init(void)
{
	harness_save_reliable = (void *)harness_lookup(HARNESS_SAVE_RELIABLE);
	if (!harness_save_reliable)
		return harness_lacks(HARNESS_SAVE_RELIABLE "()");
	harness_save_any = (void *)harness_lookup(HARNESS_SAVE_ANY);
	return harness_save_any ? 0 : harness_lacks(HARNESS_SAVE_ANY "()");
}

#endif
