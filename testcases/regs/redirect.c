// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ftrace_ops that sends calls of a function elsewhere, by another instruction pointer: what livepatch is made of,
 * and what kernels without livepatch can do too.
 *
 * attach: "SLOT FUNCTION": calls of FUNCTION go to redirect_goal(); detach: "SLOT".
 */
#include <linux/ftrace.h>
#include <linux/version.h>
#include "harness_test.h"

#define SLOTS 2

static struct ftrace_ops slots[SLOTS];
static void (*free_filter)(struct ftrace_ops *ops);	/* not exported by all kernels */

u64 redirect_goal(u64 value);

__attribute__((__noinline__)) __used notrace u64 redirect_goal(u64 value)
{
	return value + 0x1000000;
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
static notrace void redirect(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops, struct pt_regs *regs)
{
	regs->pc = (unsigned long)redirect_goal;
}
#define FLAGS (FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_RECURSION_SAFE)
#elif defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS)
static notrace void redirect(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			     struct ftrace_regs *fregs)
{
	ftrace_regs_set_instruction_pointer(fregs, (unsigned long)redirect_goal);
}
#define FLAGS FTRACE_OPS_FL_IPMODIFY
#else
static notrace void redirect(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			     struct ftrace_regs *fregs)
{
	ftrace_get_regs(fregs)->pc = (unsigned long)redirect_goal;
}
#define FLAGS (FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY)
#endif

static notrace int detach(unsigned int slot)
{
	int ret;

	if (slot >= SLOTS || !slots[slot].func)
		return -ENOENT;
	ret = unregister_ftrace_function(&slots[slot]);
	if (free_filter)
		free_filter(&slots[slot]);
	slots[slot].func = NULL;
	return ret;
}

static notrace int store_attach(char *line)
{
	char function[64];
	unsigned int slot;
	int ret;

	if (sscanf(line, "%u %63s", &slot, function) != 2 || slot >= SLOTS || slots[slot].func)
		return -EINVAL;
	slots[slot] = (struct ftrace_ops){ .func = redirect, .flags = FLAGS };
	ret = ftrace_set_filter(&slots[slot], function, strlen(function), 1);
	if (!ret)
		ret = register_ftrace_function(&slots[slot]);
	if (ret)
		slots[slot].func = NULL;
	return ret;
}

static notrace int store_detach(char *line)
{
	unsigned int slot;

	return kstrtouint(line, 10, &slot) ? -EINVAL : detach(slot);
}

static const struct harness_file files[] = {
	{ .name = "attach", .store = store_attach },
	{ .name = "detach", .store = store_detach },
	{ }
};

static int __init redirect_start(void)
{
	free_filter = (void *)harness_lookup("ftrace_free_filter");
	return harness_files(files);
}

static void __exit redirect_stop(void)
{
	unsigned int slot;

	harness_files_remove();
	for (slot = 0; slot < SLOTS; slot++)
		detach(slot);
}

module_init(redirect_start);
module_exit(redirect_stop);
MODULE_DESCRIPTION("ftrace_ops that send calls elsewhere");
MODULE_LICENSE("GPL");
