// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds a task at the entry of a function of the kernel, asleep in hold_sleep(), so that a test has all the time it
 * wants in the middle of a fork, an exec or an exit. The function is called once the task is let go.
 *
 * at: "FUNCTION COMM" holds the next task of that name which calls the function, one task only; held: its pid, 0
 * before; release: lets it go, and takes the hook away once the function has returned.
 */
#include <linux/wait.h>

#include "harness_ops.h"
#include "harness_test.h"

#ifdef __clang__
#define own_frame noinline
#else
#define own_frame noinline __attribute__((__noipa__))
#endif

typedef unsigned long (*held_func)(unsigned long a, unsigned long b, unsigned long c, unsigned long d, unsigned long e,
				   unsigned long f);

static DECLARE_WAIT_QUEUE_HEAD(hold_queue);
static char function[KSYM_NAME_LEN], comm[TASK_COMM_LEN];
static held_func original;
static struct task_struct *held; /* from the entry of the function until it has returned */
static int armed, pid;
static bool released;

/* What livepatches of this module replace. No signal wakes it: a task that exits may well have one pending. */
static own_frame void hold_sleep(void)
{
	wait_event_idle(hold_queue, READ_ONCE(released));
}

static notrace noinline unsigned long hold_here(unsigned long a, unsigned long b, unsigned long c, unsigned long d,
						unsigned long e, unsigned long f)
{
	unsigned long ret;

	WRITE_ONCE(pid, task_pid_nr(current));
	hold_sleep();
	ret = original(a, b, c, d, e, f);
	WRITE_ONCE(held, NULL);
	wake_up_all(&hold_queue);
	return ret;
}

/* Once for the task that is to be held; not when hold_here() makes it call the function after all. */
static notrace bool is_wanted(void)
{
	if (!READ_ONCE(armed) || strcmp(current->comm, comm) || cmpxchg(&armed, 1, 0) != 1)
		return false;
	WRITE_ONCE(held, current);
	return true;
}

HARNESS_REDIRECT_IF(redirect, is_wanted(), hold_here)

static struct ftrace_ops ops = { .func = redirect, .flags = HARNESS_REDIRECT_FLAGS };
static bool hooked;

static int let_go(void)
{
	int ret;

	if (!hooked)
		return 0;
	WRITE_ONCE(armed, 0);
	WRITE_ONCE(released, true);
	wake_up_all(&hold_queue);
	wait_event_idle(hold_queue, !READ_ONCE(held));
	ret = unregister_ftrace_function(&ops);
	harness_free_filter(&ops);
	hooked = false;
	return ret;
}

static int at_store(char *line)
{
	int ret;

	if (hooked)
		return -EBUSY;
	if (sscanf(line, "%127s %15s", function, comm) != 2)
		return -EINVAL;
	original = (held_func)harness_lookup(function);
	if (!original)
		return -ENOENT;
	released = false;
	pid = 0;
	ret = ftrace_set_filter(&ops, (unsigned char *)function, strlen(function), 1);
	if (!ret)
		ret = register_ftrace_function(&ops);
	if (ret)
		return ret;
	hooked = true;
	WRITE_ONCE(armed, 1);
	return 0;
}

static int release_store(char *line)
{
	return let_go();
}

static int held_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%d\n", READ_ONCE(pid));
	return 0;
}

static const struct harness_file files[] = {
	{ "at", NULL, at_store },
	{ "held", held_show },
	{ "release", NULL, release_store },
	{ }
};

static int __init hold_init(void)
{
	return harness_files(files);
}

static void __exit hold_exit(void)
{
	harness_files_remove();
	let_go();
}

module_init(hold_init);
module_exit(hold_exit);
MODULE_DESCRIPTION("holds a task at the entry of a function");
MODULE_LICENSE("GPL");
