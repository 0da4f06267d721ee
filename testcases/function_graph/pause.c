// SPDX-License-Identifier: GPL-2.0-only
/*
 * Functions for function_graph to be paused, stopped and started in the middle of: some of them sleep, some are called
 * while the task has paused the graph tracer for itself, as trace_printk() and hibernation do.
 */
#include <linux/ftrace.h>
#include <linux/wait.h>
#include "harness_test.h"

#define traced __attribute__((__noinline__)) __used
#define hide(variable) asm volatile("" : "+r"(variable))

u64 pause_inner(u64 value);
u64 pause_outer(u64 value);
u64 pause_sleep_inner(u64 value);
u64 pause_sleep_outer(u64 value);

static DECLARE_WAIT_QUEUE_HEAD(pause_queue);
static unsigned int wakes;
static atomic_t asleep = ATOMIC_INIT(0);

/* Sleep until somebody writes to "wake". */
static notrace int sleep_here(void)
{
	unsigned int before = READ_ONCE(wakes);
	int ret;

	atomic_inc(&asleep);
	ret = wait_event_killable(pause_queue, READ_ONCE(wakes) != before);
	atomic_dec(&asleep);
	return ret;
}

traced u64 pause_inner(u64 value)
{
	hide(value);
	return value + 1;
}

traced u64 pause_outer(u64 value)
{
	value = pause_inner(value);
	hide(value);
	return value + 0x10;
}

traced u64 pause_sleep_inner(u64 value)
{
	value += sleep_here() ? 0 : 1;
	hide(value);
	return value;
}

traced u64 pause_sleep_outer(u64 value)
{
	value = pause_sleep_inner(value);
	hide(value);
	return value + 0x10;
}

static notrace int show_calls(struct seq_file *m, void *unused)
{
	seq_printf(m, "%llx\n", pause_outer(0x100));
	return 0;
}

/* A call before the pause, one in it, one after it. */
static notrace int show_paused(struct seq_file *m, void *unused)
{
	u64 before = pause_outer(0x100), between, after;

	pause_graph_tracing();
	between = pause_outer(0x200);
	unpause_graph_tracing();
	after = pause_outer(0x300);
	seq_printf(m, "%llx %llx %llx\n", before, between, after);
	return 0;
}

/* Sleep inside two functions, then call two others. */
static notrace int show_sleep(struct seq_file *m, void *unused)
{
	u64 slept = pause_sleep_outer(0x100);

	seq_printf(m, "%llx %llx\n", slept, pause_outer(0x200));
	return 0;
}

/* The same, with another sleep between, in none of them. */
static notrace int show_sleep_twice(struct seq_file *m, void *unused)
{
	u64 slept = pause_sleep_outer(0x100);

	sleep_here();
	seq_printf(m, "%llx %llx\n", slept, pause_outer(0x200));
	return 0;
}

/* Sleep with the graph tracer paused. */
static notrace int show_sleep_paused(struct seq_file *m, void *unused)
{
	u64 slept;

	pause_graph_tracing();
	slept = pause_sleep_outer(0x100);
	unpause_graph_tracing();
	seq_printf(m, "%llx %llx\n", slept, pause_outer(0x200));
	return 0;
}

static notrace int show_asleep(struct seq_file *m, void *unused)
{
	seq_printf(m, "%d\n", atomic_read(&asleep));
	return 0;
}

static notrace int store_wake(char *line)
{
	WRITE_ONCE(wakes, wakes + 1);
	wake_up_all(&pause_queue);
	return 0;
}

static const struct harness_file files[] = {
	{ .name = "calls", .show = show_calls },
	{ .name = "paused", .show = show_paused },
	{ .name = "sleep", .show = show_sleep },
	{ .name = "sleep_twice", .show = show_sleep_twice },
	{ .name = "sleep_paused", .show = show_sleep_paused },
	{ .name = "asleep", .show = show_asleep },
	{ .name = "wake", .store = store_wake },
	{ }
};

static int __init notrace pause_start(void)
{
	return harness_files(files);
}

static void __exit notrace pause_stop(void)
{
	harness_files_remove();
}

module_init(pause_start);
module_exit(pause_stop);
MODULE_DESCRIPTION("functions in which the graph tracer pauses");
MODULE_LICENSE("GPL");
