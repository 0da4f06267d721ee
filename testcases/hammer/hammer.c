// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls functions on all CPUs at once, as fast as it can, and checks every result.
 *
 * run: "start" or "stop"; status: "calls N wrong M", the calls of hammer_mix() (as many as of hammer_add() and
 * hammer_outer()), and how many results were not what they have to be.
 */
#include <linux/cpu.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include "harness_sched.h"
#include "harness_test.h"

#define traced __attribute__((__noinline__)) __used
#define hide(variable) asm volatile("" : "+r"(variable))

struct eight {
	u64 word[8];
};

struct eight hammer_mix(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h);
u64 hammer_add(u64 a, u64 b);
u64 hammer_outer(u64 value);
u64 hammer_inner(u64 value);

static struct hand {
	struct task_struct *task;
	u64 calls, wrong;
} hands[NR_CPUS];

static DEFINE_MUTEX(hammer_lock);

traced struct eight hammer_mix(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h)
{
	struct eight result = { { h, g, f, e, d, c, b, a } };

	barrier();
	return result;
}

traced u64 hammer_add(u64 a, u64 b)
{
	hide(a);
	return a + b;
}

traced u64 hammer_inner(u64 value)
{
	hide(value);
	return value * 2;
}

traced u64 hammer_outer(u64 value)
{
	value = hammer_inner(value) + 1;
	hide(value);
	return value;
}

static notrace bool blow(u64 n)
{
	struct eight mixed = hammer_mix(n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7);
	bool right = true;
	int i;

	for (i = 0; i < 8; i++)
		right &= mixed.word[i] == n + 7 - i;
	right &= hammer_add(n, 42) == n + 42;
	right &= hammer_outer(n) == 2 * n + 1;
	return right;
}

static notrace int hammering(void *data)
{
	unsigned long rest = jiffies + HZ / 20;
	struct hand *hand = data;

	while (!kthread_should_stop()) {
		hand->wrong += !blow(((u64)smp_processor_id() << 56) + hand->calls);
		hand->calls++;
		/* asleep now and then, so that others come to run; freezable, so that a livepatch switches it there */
		if (time_after(jiffies, rest)) {
			set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
			schedule_timeout(1);
			rest = jiffies + HZ / 20;
		}
	}
	return 0;
}

static notrace void stop(void)
{
	int cpu;

	for (cpu = 0; cpu < nr_cpu_ids; cpu++) {
		if (hands[cpu].task)
			kthread_stop(hands[cpu].task);
		hands[cpu].task = NULL;
	}
}

static notrace int start(void)
{
	int cpu, ret = 0;

	cpus_read_lock();
	for_each_online_cpu(cpu) {
		struct task_struct *task = kthread_create(hammering, &hands[cpu], "hammer/%d", cpu);

		if (IS_ERR(task)) {
			ret = PTR_ERR(task);
			break;
		}
		kthread_bind(task, cpu);
		hands[cpu] = (struct hand){ .task = task };
		wake_up_process(task);
	}
	cpus_read_unlock();
	if (ret)
		stop();
	return ret;
}

static notrace int store_run(char *line)
{
	int ret = 0;

	mutex_lock(&hammer_lock);
	stop();
	if (!strcmp(line, "start"))
		ret = start();
	mutex_unlock(&hammer_lock);
	return ret;
}

static notrace int show_status(struct seq_file *m, void *unused)
{
	u64 calls = 0, wrong = 0;
	int cpu;

	for (cpu = 0; cpu < nr_cpu_ids; cpu++) {
		calls += READ_ONCE(hands[cpu].calls);
		wrong += READ_ONCE(hands[cpu].wrong);
	}
	seq_printf(m, "calls %llu wrong %llu\n", calls, wrong);
	return 0;
}

static const struct harness_file files[] = {
	{ .name = "run", .store = store_run },
	{ .name = "status", .show = show_status },
	{ }
};

static int __init notrace hammer_start(void)
{
	return harness_files(files);
}

static void __exit notrace hammer_stop(void)
{
	harness_files_remove();
	stop();
}

module_init(hammer_start);
module_exit(hammer_stop);
MODULE_DESCRIPTION("calls functions on all CPUs and checks every result");
MODULE_LICENSE("GPL");
