// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/*
 * The kernel's stack traces of other tasks, the reliable ones that livepatch relies on and the plain ones; a kernel
 * thread that sleeps in a known nest of functions; and one that never leaves its CPU.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/wait.h>

#include "harness_sched.h"
#include "harness_stack.h"
#include "harness_test.h"

#ifdef __clang__
#define own_frame noinline
#else
#define own_frame noinline __attribute__((__noipa__))
#endif

#define DEPTH 100

/* -- traces of one task, whose pid is written to "pid" -- */

static struct pid *chosen;

static int pid_store(char *line)
{
	struct pid *found;
	int number;

	if (kstrtoint(line, 0, &number))
		return -EINVAL;
	found = find_get_pid(number);
	if (!found)
		return -ESRCH;
	put_pid(chosen);
	chosen = found;
	return 0;
}

struct trace {
	unsigned long entries[DEPTH];
	int length; /* or the error */
};

static int take_reliable(struct task_struct *task, void *arg)
{
	struct trace *trace = arg;

	if (harness_state(task) == TASK_RUNNING || READ_ONCE(task->on_cpu))
		return -EBUSY;
	trace->length = harness_reliable_stack_of(task, trace->entries, DEPTH);
	return 0;
}

static int take_any(struct task_struct *task, void *arg)
{
	struct trace *trace = arg;

	if (harness_state(task) == TASK_RUNNING || READ_ONCE(task->on_cpu))
		return -EBUSY;
	trace->length = harness_stack_of(task, trace->entries, DEPTH);
	return 0;
}

/* Print the trace that `take` finds while the task can't wake: "error N", or a return address a line. */
static int show_trace(struct seq_file *m, int (*take)(struct task_struct *task, void *arg))
{
	struct task_struct *task = get_pid_task(chosen, PIDTYPE_PID);
	struct trace *trace;
	int i, ret;

	if (!task)
		return -ESRCH;
	trace = kzalloc(sizeof(*trace), GFP_KERNEL);
	if (!trace) {
		put_task_struct(task);
		return -ENOMEM;
	}
	ret = harness_call_on_task(task, take, trace);
	put_task_struct(task);
	if (!ret && trace->length < 0)
		seq_printf(m, "error %d\n", trace->length);
	for (i = 0; !ret && i < trace->length; i++)
		seq_printf(m, "%pS\n", (void *)trace->entries[i]);
	kfree(trace);
	return ret;
}

static int reliable_show(struct seq_file *m, void *unused)
{
	return show_trace(m, take_reliable);
}

static int any_show(struct seq_file *m, void *unused)
{
	return show_trace(m, take_any);
}

/* Every task asleep, and whether its trace is reliable: "PID COMM kthread|user N" with N entries or an error. */
static int all_show(struct seq_file *m, void *unused)
{
	struct trace *trace = kzalloc(sizeof(*trace), GFP_KERNEL);
	struct task_struct *process, *task;

	if (!trace)
		return -ENOMEM;
	rcu_read_lock();
	for_each_process_thread(process, task) {
		if (READ_ONCE(task->exit_state) || harness_call_on_task(task, take_reliable, trace))
			continue;
		seq_printf(m, "%d %s %s %d\n", task_pid_nr(task), task->comm,
			   task->flags & PF_KTHREAD ? "kthread" : "user", trace->length);
	}
	rcu_read_unlock();
	kfree(trace);
	return 0;
}

/* -- a kernel thread asleep in a nest of functions -- */

static DECLARE_WAIT_QUEUE_HEAD(klp_stacks_queue);
static struct task_struct *sleeper;

static own_frame int klp_stacks_inner(int depth)
{
	wait_event_idle(klp_stacks_queue, kthread_should_stop());
	return depth + 1;
}

static own_frame int klp_stacks_middle(int depth)
{
	return klp_stacks_inner(depth + 1) + 1;
}

static own_frame int klp_stacks_outer(int depth)
{
	return klp_stacks_middle(depth + 1) + 1;
}

static own_frame int klp_stacks_thread(void *unused)
{
	return klp_stacks_outer(0) < 0;
}

static int start_sleeper(void)
{
	struct task_struct *task = kthread_run(klp_stacks_thread, NULL, "klp_stacks");

	if (IS_ERR(task))
		return PTR_ERR(task);
	sleeper = task;
	return 0;
}

static void stop_sleeper(void)
{
	if (sleeper)
		kthread_stop(sleeper);
	sleeper = NULL;
}

/* -- a kernel thread that schedules again and again and never leaves its CPU -- */

static struct task_struct *busy;

static int busy_thread(void *unused)
{
	harness_set_fifo(current);
	set_tsk_thread_flag(current, TIF_SIGPENDING);
	while (!kthread_should_stop()) {
		/* with a signal pending it does not sleep, but goes through the scheduler as if it would */
		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
		schedule();
		/*
		 * Elsewhere most of the time: a CPU that QEMU emulates may keep the old code of what it runs at the
		 * very moment when another one patches it, and that is done to schedule() itself.
		 */
		mdelay(1);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static int start_busy(int cpu)
{
	struct task_struct *task = kthread_create(busy_thread, NULL, "klp_busy");

	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, cpu);
	busy = task;
	wake_up_process(task);
	return 0;
}

static void stop_busy(void)
{
	if (busy)
		kthread_stop(busy);
	busy = NULL;
}

/* A CPU starts one there, an empty line stops it. */
static int busy_store(char *line)
{
	int cpu;

	stop_busy();
	if (!*line)
		return 0;
	if (kstrtoint(line, 0, &cpu) || cpu < 0 || cpu >= nr_cpu_ids || !cpu_online(cpu))
		return -EINVAL;
	return start_busy(cpu);
}

static int busy_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%d\n", busy ? task_pid_nr(busy) : 0);
	return 0;
}

/* 1 starts it (anew, where there is one), 0 stops it. */
static int kthread_store(char *line)
{
	stop_sleeper();
	return *line == '1' ? start_sleeper() : 0;
}

static int kthread_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%d\n", sleeper ? task_pid_nr(sleeper) : 0);
	return 0;
}

static const struct harness_file files[] = {
	{ "pid", NULL, pid_store },
	{ "reliable", reliable_show },
	{ "any", any_show },
	{ "all", all_show },
	{ "kthread", kthread_show, kthread_store },
	{ "busy", busy_show, busy_store },
	{ }
};

static int __init klp_stacks_init(void)
{
	return harness_stack_of_init() ?: harness_call_on_task_init() ?: harness_files(files);
}

static void __exit klp_stacks_exit(void)
{
	harness_files_remove();
	stop_busy();
	stop_sleeper();
	put_pid(chosen);
}

module_init(klp_stacks_init);
module_exit(klp_stacks_exit);
MODULE_DESCRIPTION("reliable stack traces, and kernel threads to take them of");
MODULE_LICENSE("GPL");
