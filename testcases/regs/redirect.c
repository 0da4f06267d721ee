// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ftrace_ops that sends calls of a function elsewhere, by another instruction pointer: what livepatch is made of,
 * and what kernels without livepatch can do too.
 *
 * attach: "SLOT FUNCTION": calls of FUNCTION go to redirect_goal(); detach: "SLOT".
 */
#include "harness_ops.h"
#include "harness_test.h"

#define SLOTS 2

static struct ftrace_ops slots[SLOTS];

u64 redirect_goal(u64 value);

__attribute__((__noinline__)) __used notrace u64 redirect_goal(u64 value)
{
	return value + 0x1000000;
}

HARNESS_REDIRECT(redirect, redirect_goal)

static notrace int detach(unsigned int slot)
{
	int ret;

	if (slot >= SLOTS || !slots[slot].func)
		return -ENOENT;
	ret = unregister_ftrace_function(&slots[slot]);
	harness_free_filter(&slots[slot]);
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
	slots[slot] = (struct ftrace_ops){ .func = redirect, .flags = HARNESS_REDIRECT_FLAGS };
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
