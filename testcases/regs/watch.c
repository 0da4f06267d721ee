// SPDX-License-Identifier: GPL-2.0-only
/*
 * ftrace_ops of our own: they count the calls of a function and keep what the last one was handed, the registers and
 * how struct ftrace_regs tells them.
 *
 * attach: "SLOT KIND FUNCTION", with KIND plain (no registers asked for), regs (SAVE_REGS) or args; detach: "SLOT".
 * report: a line for each slot in use, of "name value" pairs, values in hexadecimal.
 */
#include <linux/ftrace.h>
#include <linux/version.h>
#include "harness_ops.h"
#include "harness_test.h"

#define SLOTS 4

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
#define OWN_RECURSION FTRACE_OPS_FL_RECURSION_SAFE
struct ftrace_regs { struct pt_regs regs; };	/* what later kernels hand over */
#else
#define OWN_RECURSION 0
#endif

static struct watch {
	struct ftrace_ops ops;
	char kind[8];
	char function[64];
	atomic64_t hits;
	unsigned long ip, parent_ip, argument[8];
	unsigned long x8, sp, pc, lr, fp;
	struct pt_regs regs;
	bool has_regs;
} watches[SLOTS];

static DEFINE_MUTEX(watch_lock);

#ifdef arch_ftrace_regs
#define raw_regs arch_ftrace_regs
#else
#define raw_regs(fregs) (fregs)
#endif

static notrace void keep_args(struct watch *watch, struct ftrace_regs *fregs)
{
#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
	int i;

	for (i = 0; i < 8; i++)
		watch->argument[i] = ftrace_regs_get_argument(fregs, i);
	watch->sp = ftrace_regs_get_stack_pointer(fregs);
	watch->pc = ftrace_regs_get_instruction_pointer(fregs);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
	watch->lr = ftrace_regs_get_return_address(fregs);
	watch->fp = ftrace_regs_get_frame_pointer(fregs);
#else
	watch->lr = raw_regs(fregs)->lr;
	watch->fp = raw_regs(fregs)->fp;
#endif
	watch->x8 = raw_regs(fregs)->regs[8];
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
static notrace void watch_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops, struct pt_regs *regs)
{
	struct ftrace_regs *fregs = (void *)regs;
#else
static notrace void watch_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			       struct ftrace_regs *fregs)
{
	struct pt_regs *regs = (ops->flags & FTRACE_OPS_FL_SAVE_REGS) ? ftrace_get_regs(fregs) : NULL;
#endif
	struct watch *watch = container_of(ops, struct watch, ops);

	watch->ip = ip;
	watch->parent_ip = parent_ip;
	if ((ops->flags & FTRACE_OPS_FL_SAVE_REGS) && regs) {
		watch->regs = *regs;
		watch->has_regs = true;
	}
	if (fregs && watch->kind[0] == 'a')
		keep_args(watch, fregs);
	atomic64_inc(&watch->hits);
}

static notrace int attach(char *line)
{
	unsigned int slot;
	char kind[8], function[64];
	struct watch *watch;
	int ret;

	if (sscanf(line, "%u %7s %63s", &slot, kind, function) != 3 || slot >= SLOTS)
		return -EINVAL;
	watch = &watches[slot];
	if (watch->ops.func)
		return -EBUSY;
	memset(watch, 0, sizeof(*watch));
	strscpy(watch->kind, kind, sizeof(watch->kind));
	strscpy(watch->function, function, sizeof(watch->function));
	watch->ops.func = watch_call;
	watch->ops.flags = OWN_RECURSION | (strcmp(kind, "regs") ? 0 : FTRACE_OPS_FL_SAVE_REGS);
	ret = ftrace_set_filter(&watch->ops, watch->function, strlen(watch->function), 1);
	if (!ret)
		ret = register_ftrace_function(&watch->ops);
	if (ret)
		watch->ops.func = NULL;
	return ret;
}

static notrace int detach(struct watch *watch)
{
	int ret;

	if (!watch->ops.func)
		return -ENOENT;
	ret = unregister_ftrace_function(&watch->ops);
	harness_free_filter(&watch->ops);
	watch->ops.func = NULL;
	return ret;
}

static notrace int store_attach(char *line)
{
	int ret;

	mutex_lock(&watch_lock);
	ret = attach(line);
	mutex_unlock(&watch_lock);
	return ret;
}

static notrace int store_detach(char *line)
{
	unsigned int slot;
	int ret;

	if (kstrtouint(line, 10, &slot) || slot >= SLOTS)
		return -EINVAL;
	mutex_lock(&watch_lock);
	ret = detach(&watches[slot]);
	mutex_unlock(&watch_lock);
	return ret;
}

static notrace void show_watch(struct seq_file *m, int slot, struct watch *watch)
{
	int i;

	seq_printf(m, "slot %x hits %llx ip %lx parent_ip %lx", slot, (u64)atomic64_read(&watch->hits), watch->ip,
		   watch->parent_ip);
	if (watch->has_regs) {
		for (i = 0; i < 31; i++)
			seq_printf(m, " x%d %llx", i, watch->regs.regs[i]);
		seq_printf(m, " sp %llx pc %llx pstate %llx", watch->regs.sp, watch->regs.pc, watch->regs.pstate);
	} else if (watch->kind[0] == 'a') {
		for (i = 0; i < 8; i++)
			seq_printf(m, " x%d %lx", i, watch->argument[i]);
		seq_printf(m, " x8 %lx sp %lx pc %lx x29 %lx x30 %lx", watch->x8, watch->sp, watch->pc, watch->fp,
			   watch->lr);
	}
	seq_putc(m, '\n');
}

static notrace int show_report(struct seq_file *m, void *unused)
{
	int slot;

	mutex_lock(&watch_lock);
	for (slot = 0; slot < SLOTS; slot++)
		if (watches[slot].ops.func)
			show_watch(m, slot, &watches[slot]);
	mutex_unlock(&watch_lock);
	return 0;
}

static const struct harness_file files[] = {
	{ .name = "attach", .store = store_attach },
	{ .name = "detach", .store = store_detach },
	{ .name = "report", .show = show_report },
	{ }
};

static int __init watch_start(void)
{
	return harness_files(files);
}

static void __exit watch_stop(void)
{
	int slot;

	harness_files_remove();
	for (slot = 0; slot < SLOTS; slot++)
		detach(&watches[slot]);
}

module_init(watch_start);
module_exit(watch_stop);
MODULE_DESCRIPTION("ftrace_ops that keep what they were handed");
MODULE_LICENSE("GPL");
